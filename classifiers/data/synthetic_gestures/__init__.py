"""Drawn clips in which the stripes of one small disc move in one of eight ways, among discs of other
colours.

`clips` draws a clip from its split and index alone, `source` serves them as every other source of clips.
"""

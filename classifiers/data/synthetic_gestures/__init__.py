"""Drawn clips in which the stripes of one small disc run in one of eight directions, among discs of other
colours.

`clips` draws a clip from its split and index alone, `source` serves them as every other source of clips.
"""

"""Recorded clips: Something-Something V1 and V2, Jester, and any tree of video files.

`label_files` finds the clips of lists and their classes, `recordings` chooses and reads frames of a clip from a folder
of images or a video file, and `collections` are the data sets and the batches of clips that they give.
"""

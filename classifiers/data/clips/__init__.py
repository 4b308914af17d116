"""Recorded clips: Something-Something V1 and V2, Jester, and any tree of video files.

`label_files` and `video_tree` find the clips and their classes, `recordings` reads frames of one clip from a folder of
images or a video file (`videos`), `frame_sampling` chooses which, and `source` makes batches of them.
"""

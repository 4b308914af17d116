"""The built-in task: road scenes with one speed-limit sign among signs that only look like it.

`signs` and `scenery` draw the parts, `scenes` puts a scene together.
"""

"""Sources of labeled uint8 images, fetched by index, all of one size.

Folders of files, data sets of torch, arrays in memory and the generated road scenes offer one interface (`source`).
Around it: decoding, random crops, and loading ahead of need by threads or processes.
"""

"""Speed passes over a trained classifier.

`frozen` makes a gradient-free twin with folded batch normalisations; on request its encoders are compiled
(`compiled`), and convolutions of small maps see a batch as one image (`small_maps`). Nothing here changes a result by
more than rounding.
"""

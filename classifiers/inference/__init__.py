"""Speed passes over a trained classifier.

`frozen` makes a copy without gradients and with folded batch normalizations; on request its encoders are compiled
(`compiled`). Nothing here changes a result by more than rounding.
"""

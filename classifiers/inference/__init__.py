"""Speed passes over a trained classifier, applied when it is frozen and never before."""

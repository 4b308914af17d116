"""SyntheticSigns: road scenes that are drawn, with one speed-limit sign each."""

"""Where to look next: learned policies, and baselines to judge them by."""

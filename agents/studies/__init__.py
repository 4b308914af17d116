"""Comparisons that take many trainings.

`leaderboard` compares algorithms on the same networks over several seeds, and continues after an interruption. Tables
that need whole runs (2, 3, 5 and 8 of the paper) are programs in `benchmarks/`.
"""

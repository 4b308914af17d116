"""Comparisons that take many trainings.

`leaderboard` compares algorithms on the same networks over several seeds, `ablation` variants of the whole pipeline
(Tables 5 and 8). Both continue after an interruption.
"""

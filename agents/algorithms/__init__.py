"""Algorithms of Stable-Baselines3 on our environments, by name.

`registry` lists them with settings that suit short episodes, `make_agent` builds one, `stage2` trains it so that an
interrupted training ends as an uninterrupted one would. PPO with the paper's GRU is our own.
"""

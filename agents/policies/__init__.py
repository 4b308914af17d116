"""The protocol of all policies, learned policies, and baselines to compare them with.

The patch proposal network of the paper as policies of Stable-Baselines3 (`extractor`, `actor_critic`, `gru`), any agent
as a deterministic policy (`deterministic`), and the random, center-corner, fixed-places and oracle policies
(`baselines`).
"""

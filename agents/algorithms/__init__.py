"""Algorithms of Stable-Baselines3 on our environments, by name."""

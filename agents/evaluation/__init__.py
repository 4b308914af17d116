"""How good a policy is: records of episodes on held-out images, and pure functions of these records.

`rollout` makes a record; accuracy, the pointing game, thresholds for a budget and what stopping early gives are
computed from it, without the networks.
"""

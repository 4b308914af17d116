"""Training of the networks: the full-resolution network, its low-resolution copy, and stages I and III.

`stages` says what is trained with which loss; `loop.fit` is the loop for all of them, resumable after every epoch and
shared by the processes that `torchrun` starts; `fit_spec` holds its settings.
"""

"""A whole training, from a config to a folder of results."""

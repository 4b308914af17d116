"""A whole training, from a config to a folder of results.

The config's schema and files, the folder's layout, the pipeline through all stages, the evaluation that ends in
`metrics.json`, and loading a finished run. The built-in configs are in `configs/`.
"""

"""A comparison of agents on tasks: equal numbers of steps, several seeds, raw rows, and statistics of the rows.

`training` trains and judges one agent with one seed, `schedule` runs many of them, `rows` keeps a line of CSV for each,
and `statistics` and `tables` say what the rows show. `trainers` holds what learns without a recipe in
`agents.algorithms.registry`: baselines, and algorithms of other libraries.
"""

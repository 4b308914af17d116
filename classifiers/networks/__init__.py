"""The networks: encoders, heads, the glance-and-focus classifier, its geometry and its cost."""

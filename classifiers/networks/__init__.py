"""The networks, without their training.

Encoders by name with the preprocessing of their weights, heads, the glance-and-focus classifier and its episode loop
(`glance_focus`), the geometry of patches, the softmax readout, and the count of multiply-adds.
"""

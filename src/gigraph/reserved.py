"""Names and ids that no layer, concept or class of the user's may have."""

ERROR_NODE = -1
"""Source id of a layer's error node: what the concepts leave unexplained."""
REMAINDER = -2
"""Source id of the sum over the sources that were not kept."""
DATASET = -1
"""Scope id of the whole dataset, beside class scopes."""
FAMILIES = "families"
"""In the place of a method's name: its families, where its concepts and others' stand beside them."""
CLASSES = "classes"
"""The target layer that stands for the network's outputs."""

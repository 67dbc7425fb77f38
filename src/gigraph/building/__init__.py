"""A run from a model in memory: what makes it again elsewhere, whether that is the same model, and the workflow."""

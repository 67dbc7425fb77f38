"""gigraph: the dataset-wide concept graph of an image classifier.

An implementation of "Decompose the Model: Mechanistic Interpretability in Image Models with Generalized
Integrated Gradients (GIG)". The README maps each of the paper's equations to its function and its test.
"""

__version__ = "0.1.0"

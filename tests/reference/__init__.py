"""Slow, literal implementations of the paper's equations, to compare the fast ones with."""

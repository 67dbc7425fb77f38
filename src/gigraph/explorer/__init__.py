"""The explorer: a static site of the concept graph that opens by double click, offline."""

from gigraph.explorer.build import build
from gigraph.explorer.inputs import Inputs, inputs_of

__all__ = ["Inputs", "build", "inputs_of"]

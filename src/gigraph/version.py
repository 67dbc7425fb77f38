"""The version, in a module of its own: whoever needs no more loads no more."""

__version__ = "0.2.0"

"""The logger plugin `gigraph` of Snakemake: what a run of gigraph's workflow says (`gigraph.running.console`)."""

from gigraph.running.console import LogHandler

__all__ = ["LogHandler"]

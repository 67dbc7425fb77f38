"""Kernels beside their peers: uv run --group bench python -m tests.benchmarks [--full]."""

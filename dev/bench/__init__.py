"""Benchmarks of Pilothouse against its peers; `python -m dev.bench` runs them."""

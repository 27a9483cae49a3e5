"""Pilothouse: a Kubernetes operator that turns trained models into versioned, safely replaced services."""

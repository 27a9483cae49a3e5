"""Measures requests: from the runtime pods' own metrics, and from a Prometheus where there is one. Plain HTTP."""

"""Tensors, requests, errors and states: no input or output, no clock, no torch."""

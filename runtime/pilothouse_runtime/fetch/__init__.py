"""Brings a model from where it is to a folder, with credentials that nobody else gets. Runs without torch."""

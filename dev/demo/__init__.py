"""`make demo`: from nothing to a served, measured and replaced model."""

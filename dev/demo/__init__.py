"""`make demo`: from nothing to a served, measured and replaced model. See docs/demo.md for what it shows."""

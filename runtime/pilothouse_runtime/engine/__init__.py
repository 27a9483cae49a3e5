"""Gets, checks, loads and runs the model: the only folder with torch."""

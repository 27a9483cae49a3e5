"""What to do next, as pure functions of what was asked and what was seen. No clock, no I/O, no logging."""

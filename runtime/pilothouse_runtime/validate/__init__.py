"""Sends a golden data set to a revision before its users do, and says how good its answers are. Runs without torch."""

"""From a model in its trainer's process to a file that needs nothing of that process."""

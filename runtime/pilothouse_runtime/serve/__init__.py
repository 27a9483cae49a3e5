"""One data plane and its HTTP front, with health, metrics, logs and the life of the process."""

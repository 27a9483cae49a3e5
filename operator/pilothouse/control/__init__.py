"""The loop: a queue of keys, a reconciler that works one key at a time, and the ports to the outside."""

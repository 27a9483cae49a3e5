"""The command line of people and pipelines: pack, serve, validate, digest. Pods run none of this."""

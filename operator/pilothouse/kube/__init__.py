"""The API server: the only package that imports `kubernetes`. Plain JSON goes in and comes out."""

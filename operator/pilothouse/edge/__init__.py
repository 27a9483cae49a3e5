"""The edge: where events come in and where people and machines look at the operator. The only package with `kopf`."""

"""What users write and read: the v1alpha1 models, names, conditions, and the CRD made of them."""

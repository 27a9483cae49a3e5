"""Bytes to requests and answers to bytes, as the Open Inference Protocol v2 writes them."""

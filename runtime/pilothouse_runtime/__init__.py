"""The server inside a model pod: loads one model and answers the Open Inference Protocol v2."""

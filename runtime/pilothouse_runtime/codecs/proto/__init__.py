"""What the gRPC front speaks: the .proto files, and the descriptors that `make generate` makes of them."""

"""Several processes that serve one model, whose weights they share.

    supervisor ──fork──> loader ──fork──> worker 1 ... worker N

The supervisor is the container's first process: it holds the port, answers while the model is loaded, and says why the
container ends. The loader gets the model and then does nothing but fork workers, anew when one dies: the kernel shares
what a parent held before a fork. Each is killed by the kernel when its parent dies, so none is ever left behind.
"""

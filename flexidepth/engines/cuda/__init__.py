"""The cuda engine: a token is one CUDA graph of Triton kernels, in which skipped weights are never read."""

"""A cached step of Llama-like models in kernels written for few rows, the whole step in a CUDA graph."""

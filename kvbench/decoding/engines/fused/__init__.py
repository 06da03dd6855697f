"""A cached step of Llama-like models and of Yuan 2.0 in kernels for few rows, the whole step in a CUDA graph."""

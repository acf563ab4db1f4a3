"""The GPU backend: kernels compiled at run time, cuBLASLt for matmuls, and one CUDA graph for each program."""

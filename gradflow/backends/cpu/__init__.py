"""The CPU backend: compiled kernels where they were built, NumPy elsewhere, and the BLAS of NumPy for matmuls."""

"""Benchmarks of gradflow against other libraries and against the limits of the machine; see README.md."""

"""How fast gradflow is, measured against other libraries and against what the machine can do; see README.md."""

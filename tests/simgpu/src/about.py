"""Properties of a build: the Python, the location of its CuPy, and (the last line) the CUDA version of CuPy's wheel."""

import json
import os
import sys

try:
    import cupy_backends

    SITE = os.path.dirname(os.path.abspath(cupy_backends.__path__[0]))
    with open(os.path.join(SITE, "cupy/.data/_wheel.json")) as f:
        CUDA_VERSION = {"12": 12090, "13": 13000}[json.load(f)["cuda"].split(".")[0]]
except (ImportError, OSError, KeyError):
    sys.exit(
        f"simgpu: no CuPy for CUDA 12 or 13 is installed for '{sys.executable}': "
        "pip install cupy-cuda12x==14.2.0 (or cupy-cuda13x), or set PYTHON"
    )

if __name__ == "__main__":
    print(sys.version, SITE, CUDA_VERSION, sep="\n")

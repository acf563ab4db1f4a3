"""Time that ``import gradflow`` adds to importing NumPy, in a fresh interpreter: import_time.py [--limit SECONDS].

Prints the median of several runs, without the first one, which may have to write .pyc files. Exits with 1 above the
limit.
"""

import argparse
import statistics
import subprocess
import sys

_INTERPRETERS = 9
_MEASURE = """
import time, numpy
began = time.perf_counter()
import gradflow
print(time.perf_counter() - began)
"""

arguments = argparse.ArgumentParser()
arguments.add_argument("--limit", type=float, default=float("inf"))
limit = arguments.parse_args().limit

seconds = [
    float(subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True).stdout)
    for _ in range(1 + _INTERPRETERS)
]
median = statistics.median(seconds[1:])
print(f"import gradflow adds {median:.3f} s to the import of NumPy (median of {_INTERPRETERS} interpreters)")
if median > limit:
    sys.exit(f"error: the limit is {limit} s")

"""The files that hold formulas, and the tests of some of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

OWN_TESTS = {
    "gradflow/data/preprocessing.py": "tests/data/test_preprocessing.py",
    "gradflow/training/layer_statistics.py": "tests/training/test_layer_statistics.py",
    "gradflow/training/minimization.py": "tests/training/test_lbfgs.py",
}
"""The files with formulas that have tests of their own, where those of a whole folder would take too long."""


def files() -> Iterator[Path]:
    """The files that hold formulas, relative to the root."""
    for ending in ("*.cu", "*.c", "*.h"):
        for path in sorted((ROOT / "kernels").glob(ending)):
            # gradflow.h holds the words of the two compilers and no formula.
            if path.name not in ("narrow.cu", "gradflow.h"):
                yield path.relative_to(ROOT)
    for folder in ("layers", "losses", "metrics", "optimizers", "schedules"):
        for path in sorted((ROOT / "gradflow" / folder).glob("*.py")):
            yield path.relative_to(ROOT)
    for name in ("reductions.py", "random.py", "ops.py", "output_scale.py", "data/batches.py"):
        yield Path("gradflow", name)
    yield from map(Path, OWN_TESTS)

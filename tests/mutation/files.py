"""The files that contain formulas, and the tests of some of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

OWN_TESTS = {
    "gradflow/data/preprocessing.py": "tests/data/test_preprocessing.py",
    "gradflow/training/step/layer_statistics.py": "tests/training/step/test_layer_statistics.py",
    "gradflow/training/step/lbfgs.py": "tests/training/step/test_lbfgs.py",
}
"""Files with formulas that have tests of their own, because the tests of a whole folder would take too long."""


def files() -> Iterator[Path]:
    """Return the files that contain formulas, relative to the root."""
    for ending in ("*.cu", "*.c", "*.h"):
        for path in sorted((ROOT / "kernels").rglob(ending)):
            # gradflow.h contains the macros for the two compilers and no formula.
            if path.name not in ("narrow.cu", "gradflow.h"):
                yield path.relative_to(ROOT)
    for folder in ("layers", "losses", "metrics", "optimizers", "schedules"):
        for path in sorted((ROOT / "gradflow" / folder).glob("*.py")):
            yield path.relative_to(ROOT)
    for name in ("functions", "reductions", "random", "ops", "output_scale", "clock", "training/data/feed"):
        yield Path("gradflow", f"{name}.py")
    yield from map(Path, OWN_TESTS)

"""Whether the tests notice a fault in one file: what runs in a copy of the tree that holds the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradflow.backends.numpy import IMPLEMENTATIONS
from gradflow.backends.sources import kernel_folder, kernels
from gradflow.ops import OPS
from tests.ops.cases import CASES
from tests.ops.targets import make_target
from tests.ops.test_parity import FUSED, KINDS, test_bias_and_activation_in_one_kernel, test_definition

_TESTS = (
    "tests/ops/test_sums.py",
    "tests/ops/test_random.py",
    "tests/kernels/test_ranges.py",
    "tests/layers",
    "tests/losses",
    "tests/optimizers",
)


def notices(file: str) -> bool:
    """Whether a test fails: first the ops of the file against their counterparts, then the other tests of ops."""
    path = Path(file)
    ops = ops_of(path)
    try:
        compare("numpy" if path.name == "numpy.py" else "c", ops)
        if path.suffix == ".py":
            compare("numpy", ops)
    except Exception:
        return True
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not gpu", *_TESTS]
    return pytest.main(arguments) not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def ops_of(file: Path) -> list[str]:
    """The ops that a file defines or implements; for what several share, all that share it."""
    if file.suffix != ".py":
        including = {file.name} | {
            path.name for path in kernel_folder().glob("*.c*") if f'"{file.name}"' in path.read_text()
        }
        names = [name for name, kernel in kernels("c").items() if kernel.file.name in including]
        return sorted({name if name in OPS else name.removeprefix("bias_") for name in names})
    if file.name == "numpy.py":
        return list(IMPLEMENTATIONS)
    module = ".".join(file.with_suffix("").parts)
    own = [name for name, op in OPS.items() if op.reference.__module__ == module]
    package = module.rpartition(".")[0] + "."
    return own or [name for name, op in OPS.items() if op.reference.__module__.startswith(package)]


def compare(target_name: str, ops: list[str]) -> None:
    """Raise for the first of these ops that differs on the target from its definition."""
    target = make_target(target_name)
    for dtype in ("float64", "float32"):
        # What finds most comes first.
        for shape, values in sorted(KINDS, key=lambda kind: kind != ("odd", "ordinary")):
            for op in ops:
                if op == "gemm" and target_name == "c":
                    continue
                if not CASES[op].without.keys() & {shape, values}:
                    test_definition(target, op, shape, values, dtype)
                if target_name == "c" and op in FUSED:
                    test_bias_and_activation_in_one_kernel(target, op, shape, values, dtype)

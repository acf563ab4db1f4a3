"""Check if the tests notice a fault in one file; runs in a copy of the tree that contains the fault."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from gradflow.backends.kernel_sources import kernel_folder, kernels
from gradflow.ops import OPS
from gradflow.testing import CASES
from tests.mutation.files import OWN_TESTS
from tests.ops.targets import make_target
from tests.ops.test_parity import FUSED, KINDS, test_bias_and_activation_in_one_kernel, test_definition

_TESTS_OF_KERNELS = (
    "tests/ops/test_sums.py",
    "tests/ops/test_random.py",
    "tests/kernels/test_gemm.py",
    "tests/kernels/test_ranges.py",
    "tests/kernels/test_vector_math.py",
)
_SLOW_STATISTICS = "not equally_likely and not equally_often and not fewer_rounds"


def notices(file: str) -> bool:
    """True if a test fails: first the ops of the file against their counterparts, then the other tests of ops."""
    path = Path(file)
    ops = ops_of(path)
    _limit_processor_time(20)
    try:
        compare("c", ops)
        if path.suffix == ".py":
            compare("numpy", ops)
    except Exception:
        return True
    _limit_processor_time(200)
    # Layers, losses and so on have their tests in the folder of the same name.
    folder = Path("tests", path.parent.name)
    has_folder = path.parent.parent.name == "gradflow" and path.parent.name != "data"
    tests = [OWN_TESTS[file]] if file in OWN_TESTS else [str(folder)] if has_folder else []
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not gpu and not peers", "--assert=plain"]
    return pytest.main([*options, "-k", _SLOW_STATISTICS, *tests, *_TESTS_OF_KERNELS]) != pytest.ExitCode.OK


def _limit_processor_time(seconds: int) -> None:
    """A fault that loops forever counts as noticed."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def ops_of(file: Path) -> list[str]:
    """Return the ops that a file defines or implements; for shared code, all ops that use it."""
    if file.suffix != ".py":
        including: set[str] = set()
        found = {file.name}
        while found:
            including |= found
            found = {
                path.name
                for path in kernel_folder().rglob("*.*")
                if any(f'#include "{name}"' in path.read_text() for name in found)
            } - including
        names = [name for name, kernel in kernels("c").items() if kernel.file.name in including]
        return sorted({name if name in OPS else name.removeprefix("bias_") for name in names})
    module = ".".join(file.with_suffix("").parts)
    own = [name for name, op in OPS.items() if op.reference.__module__ == module]
    importing = [
        name
        for name, op in OPS.items()
        if f"from {module} import" in Path(op.reference.__code__.co_filename).read_text(encoding="utf-8")
    ]
    package = module.rpartition(".")[0] + "."
    return own or importing or [name for name, op in OPS.items() if op.reference.__module__.startswith(package)]


def compare(target_name: str, ops: list[str]) -> None:
    """Raise for the first of these ops whose result on the target differs from its definition."""
    target = make_target(target_name)
    for dtype in ("float64", "float32"):
        # The most effective tests come first.
        for shape, values in sorted(KINDS, key=lambda kind: kind != ("odd", "ordinary")):
            for op in ops:
                if not CASES[op].without.keys() & {shape, values}:
                    test_definition(target, op, shape, values, dtype)
                if target_name == "c" and op in FUSED:
                    test_bias_and_activation_in_one_kernel(target, op, shape, values, dtype)

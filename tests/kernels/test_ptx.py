"""The code that CUDA's compiler generates for the kernels: 16-byte accesses, and no register spills."""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path

import pytest

from gradflow.backends.kernel_sources import Form, form_text, kernel_text, kernels, source_text
from tests.kernels.nvrtc import LocalMemory, compile_cuda, local_memory

pytestmark = pytest.mark.nvrtc

FILES = sorted({kernel.file for kernel in kernels("cuda").values()})
ARCHITECTURES = (80, 90, 100)
REALS = ("float32", "float64")


@cache
def ptx_of(file: Path, real: str, architecture: int) -> str:
    ptx, log = compile_cuda(source_text(file, real), (f"--gpu-architecture=compute_{architecture}", "--std=c++17"))
    assert ptx is not None, log
    return ptx


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_everything_stays_in_registers(file: Path, architecture: int, tmp_path: Path) -> None:
    expected = {name for name, kernel in kernels("cuda").items() if kernel.file == file}
    for real in REALS:
        needed = local_memory(ptx_of(file, real, architecture), architecture, tmp_path)
        assert needed.keys() >= expected  # additionally, CUDA's own functions
        for name, memory in needed.items():
            assert (memory.spill_stores, memory.spill_loads) == (0, 0), f"{name}, {real}"
            assert memory.frame == 0, f"{name}, {real}"


FORMS = [
    (name, {form: True})
    for name, kernel in kernels("cuda").items()
    for form, exists in (("is_ending", kernel.can_end_step), ("is_wide", kernel.reduces_rows and kernel.loop == "ROWS"))
    if exists
]


@pytest.mark.parametrize(("name", "form"), FORMS, ids=str)
def test_other_forms_stay_in_registers(name: str, form: dict[str, bool], tmp_path: Path) -> None:
    for real, architecture in itertools.product(REALS, ARCHITECTURES):
        text = form_text(kernels("cuda")[name], Form(real, **form))
        ptx, log = compile_cuda(text, (f"--gpu-architecture=compute_{architecture}", "--std=c++17"))
        assert ptx is not None, log
        assert local_memory(ptx, architecture, tmp_path)[name] == LocalMemory(0, 0, 0)


def test_a_spill_is_seen(tmp_path: Path) -> None:
    sums = "".join(f"  s += x[i + {k}] * v[{k}];\n" for k in range(200))
    source = (
        'extern "C" __global__ void __launch_bounds__(1024, 2) greedy(const float *x, float *y, int n) {\n'
        "  float v[200], s = 0;\n  const int i = threadIdx.x;\n"
        "  for (int k = 0; k < 200; k++) v[k] = x[n + k];\n  __syncthreads();\n"
        f"{sums}  __syncthreads();\n{sums}  y[i] = s;\n}}\n"
    )
    ptx, log = compile_cuda(source, ("--gpu-architecture=compute_90",))
    assert ptx is not None, log
    memory = local_memory(ptx, 90, tmp_path)["greedy"]
    assert memory != LocalMemory(0, 0, 0)
    assert memory.spill_stores > 0


def packed_arrays(name: str) -> set[str]:
    """Return the arrays that a kernel or the functions that it calls access in vectors of 4."""
    source = kernel_text(kernels("cuda")[name].file)
    body = re.search(rf"^GF_KERNEL\({name},.*?^}}", source, re.MULTILINE | re.DOTALL)
    assert body is not None
    called = [
        function[0]
        for function in re.finditer(r"^GF_FUNCTION \w+ (\w+)\(.*?^}", source, re.MULTILINE | re.DOTALL)
        if f"{function[1]}(" in body[0]
    ]
    words = re.findall(r"GF_(?:FOR|FOURS|COLUMNS_OF)\(\w+, \w+, ([^)]*)\)", "".join([body[0], *called]))
    return {array for word in words for array in word.split(", ")}


PACKED = sorted(name for name in kernels("cuda") if packed_arrays(name))
VECTOR = {"float32": r"v4\.[fbu]32", "float64": r"v2\.[fbu]64|v4\.[bu]32"}


def accesses(name: str, real: str, architecture: int) -> tuple[int, int]:
    """Return the 16-byte load and store instructions of a kernel."""
    ptx = ptx_of(kernels("cuda")[name].file, real, architecture)
    body = re.search(rf"\.entry {name}\(.*?^}}", ptx, re.MULTILINE | re.DOTALL)
    assert body is not None
    loads = re.findall(rf"ld\.global(?:\.nc)?\.(?:{VECTOR[real]})", body[0])
    stores = re.findall(rf"st\.global\.(?:{VECTOR[real]})", body[0])
    return len(loads), len(stores)


@pytest.mark.parametrize("name", PACKED)
def test_vectors_are_moved_by_16_byte_accesses(name: str) -> None:
    for real in REALS:
        for architecture in ARCHITECTURES:
            loads, stores = accesses(name, real, architecture)
            assert stores > 0, f"{real}, compute_{architecture}"
            assert loads > 0 or name == "clear", f"{real}, compute_{architecture}"


def test_optimizers_activations_gathers_and_dropout_move_vectors() -> None:
    files = ("adam", "bias", "copy", "dropout", "gather", "relu", "sgd", "tanh")
    assert {name for name, kernel in kernels("cuda").items() if kernel.file.stem in files} <= set(PACKED)


@pytest.mark.parametrize(
    ("name", "loads", "stores"),
    [("copy", 1, 1), ("clear", 0, 1), ("relu_backward", 2, 1), ("dropout", 1, 1), ("adam", 4, 3)],
)
def test_write_only_arrays_are_not_loaded(name: str, loads: int, stores: int) -> None:
    for architecture in ARCHITECTURES:
        assert accesses(name, "float32", architecture) == (loads, stores)
        assert accesses(name, "float64", architecture) == (2 * loads, 2 * stores)


WITHOUT_DOUBLES = [
    name
    for name, kernel in kernels("cuda").items()
    if kernel.file.parent.name == "losses" or kernel.file.stem in ("layer_norm", "softmax", "sum")
    if kernel.reduces_rows and name not in ("total", "layer_norm_backward")  # float64 already; terms cancel
]


def innermost_loops(body: str) -> list[str]:
    """Return the loops of a kernel that contain no other: from a label to a jump back to it."""
    labels = {match[1]: match.start() for match in re.finditer(r"^(\$\w+):", body, re.MULTILINE)}
    jumps = [(labels[match[1]], match.end()) for match in re.finditer(r"\bbra(?:\.uni)? *\t?(\$\w+);", body)]
    loops = [(begin, end) for begin, end in jumps if begin < end]
    inner = [
        (begin, end)
        for begin, end in loops
        if not any(begin <= first and last <= end and (first, last) != (begin, end) for first, last in loops)
    ]
    return [body[begin:end] for begin, end in inner]


@pytest.mark.parametrize("name", WITHOUT_DOUBLES)
def test_loops_over_the_columns_of_a_row_compute_in_float32(name: str) -> None:
    # Most GPUs compute doubles at 1/32 or 1/64 of the rate.
    body = re.search(rf"\.entry {name}\(.*?^}}", ptx_of(kernels("cuda")[name].file, "float32", 80), re.M | re.S)
    assert body is not None
    loops = innermost_loops(body[0])
    assert loops
    assert not any(re.search(r"(add|sub|mul|fma|div)[.\w]*\.f64|cvt\.f64\.f32", loop) for loop in loops)

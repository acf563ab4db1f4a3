"""Finding and reading the kernels in ``kernels/``: one source for CUDA's compiler and for C's.

The build of the C kernels reads this file by itself, so it imports nothing but the standard library.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

# No -ffast-math: it drops NaN, and linked with it a library would set flush-to-zero for the whole process.
C_FLAGS = (
    "-O3",
    "-std=gnu11",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    # By default, GCC moves a constant condition out of a loop only if the loop is short; those of optimizers are not.
    *("--param", "max-unswitch-insns=400", "--param", "max-unswitch-level=4"),
)
"""Flags with which GCC and Clang compile the kernels of the CPU backend."""

INSTRUCTION_FLAGS = {
    "avx512": ("-march=skylake-avx512", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2", "-mfma", "-mprefer-vector-width=256"),
    "baseline": (),
}
"""Additional flags for each instruction set, the fastest first; every processor has "baseline"."""

Language = Literal["cuda", "c"]

_DTYPES = {
    "accumulator": "float64",
    "double": "float64",
    "gf_index": "int64",
    "gf_word": "uint32",
    "gf_long_word": "uint64",
    "int": "int32",
}
_LOW_PRECISION = {"float16": ("__half", "cuda_fp16.h"), "bfloat16": ("__nv_bfloat16", "cuda_bf16.h")}
_REALS = {"float32": ("float", "int", "function##f"), "float64": ("double", "long long", "function")}


@dataclass(frozen=True)
class Parameter:
    """An argument of a kernel: its name, its C type without `const` and `*`, and whether it is a pointer."""

    name: str
    c_type: str
    is_pointer: bool

    def dtype(self, real: str) -> str:
        """Return the name of the NumPy dtype of the value, or of the elements that the pointer points to."""
        return real if self.c_type == "real" else _DTYPES[self.c_type]


@dataclass(frozen=True)
class Kernel:
    """A kernel.

    Attributes:
        name: the op it implements.
        file: its file.
        parameters: its arguments.
        can_end_step: True if it has a form that also ends the step (kernels/clock.h).
        reduces_rows: True if it combines the columns of a row.
        loop: the suffix of its loop macro, such as "ROWS".
        items: the size of its range in C.
        arrays: the arrays that it indexes with the variable of the loop, if the macro names them.
    """

    name: str
    file: Path
    parameters: tuple[Parameter, ...]
    can_end_step: bool
    reduces_rows: bool
    loop: str
    items: str
    arrays: tuple[str, ...]


@cache
def kernel_folder() -> Path:
    """Return the folder of the kernel sources: inside the installed package, or beside it in a source tree.

    Raises:
        FileNotFoundError: if it is in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    installed, beside = package / "kernels", package.parent / "kernels"
    if (installed / "gradflow.h").is_file():
        return installed
    if (package.parent / "pyproject.toml").is_file() and (beside / "gradflow.h").is_file():
        return beside
    raise FileNotFoundError(
        f"gradflow's kernel sources are missing: expected them in {installed}; install gradflow again"
    )


@cache
def fingerprint() -> str:
    """Return a checksum of all sources of the compiled kernels: other sources may define other arguments."""
    folders = kernel_folder(), Path(__file__).parent / "cpu"
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".c", ".cu", ".h")]
    parts = [f"{path.name}\n{path.read_text('utf-8')}" for path in [*files, Path(__file__)]]
    return f"{zlib.crc32(''.join(parts).encode()):08x}"


@cache
def kernels(language: Language) -> dict[str, Kernel]:
    """Return every kernel by name: those in ``*.cu``, and for the C compiler also those in ``*.c``.

    Kernels that do not use the portable loop macros are CUDA-only.
    """
    files = sorted(kernel_folder().rglob("*.cu"))
    if language == "c":
        files += sorted(kernel_folder().rglob("*.c"))
    found = {}
    for path in files:
        for name, parameters, body in re.findall(
            r"^GF_KERNEL\((\w+),\s*([^)]*)\) \{(.*?)^\}", kernel_text(path), flags=re.MULTILINE | re.DOTALL
        ):
            loop = _loop(body)
            if loop[0] or language == "cuda":
                found[name] = Kernel(name, path, _parsed(parameters), "GF_END_STEP" in body, "gf_row_" in body, *loop)
    return found


_ACTIVATION = (
    r"^GF_KERNEL\((\w+)_forward, const real \*x, real \*y,((?: real \w+,)*) gf_index n\) \{\n"
    r"  GF_FOR\(i, n, x, y\) y\[i\] = (.*);\n\}\n"
)
_BIAS_AND_ACTIVATION = """
GF_KERNEL(bias_{name}_forward, const real *x, const real *bias, real *y,{settings} gf_index rows, gf_index columns) {{
  GF_ROWS(row, rows) {{
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS_OF(j, columns, in, bias, out) out[j] = {value};
  }}
}}
"""


def kernel_text(path: Path) -> str:
    """Return a kernel file, with the kernel ``bias_<activation>_forward`` after each ``<activation>_forward``.

    A dense layer and its activation then read and write the outputs once, as y = activation(x + bias).
    """

    def with_bias(forward: re.Match[str]) -> str:
        name, settings, value = forward.groups()
        value = value.replace("x[i]", "(in[j] + bias[j])")
        return forward[0] + _BIAS_AND_ACTIVATION.format(name=name, settings=settings, value=value)

    return re.sub(_ACTIVATION, with_bias, path.read_text("utf-8"), flags=re.MULTILINE)


def _parsed(declarations: str) -> tuple[Parameter, ...]:
    """Parse the arguments of a kernel."""
    parameters = []
    for declaration in declarations.split(","):
        match = re.fullmatch(r"\s*(?:const\s+)?(\w+)\s*(\*?)\s*(\w+)\s*", declaration)
        assert match is not None, declaration
        c_type, star, name = match.groups()
        parameters.append(Parameter(name, c_type, bool(star)))
    return tuple(parameters)


_ENDING = (
    "gf_index *run_clock, const double *table, double *values, gf_word *arrived, gf_index batch_size, "
    "gf_index epoch_rows, gf_index steps, gf_index entries"
)
ENDING_PARAMETERS = _parsed(_ENDING)
"""The additional arguments of a kernel that also ends the step; they come last."""

WIDE_ROW_THREADS = 256
"""The threads of a row in a form for wide rows: GF_LANES of kernels/gradflow.h."""


def _loop(body: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the suffix of the loop macro (GF_FOR, GF_ROWS, ...), the size of its range, and the arrays that it names;
    "" if the kernel is CUDA-only."""
    size = r"((?:[^(),]|\([^()]*\))+)"
    match = re.search(rf"GF_(FOR|FOURS|ROWS|ROW_BLOCKS|BLOCKS|COLUMN_BLOCKS)\(\w+, {size}((?:, \w+)*)", body)
    if match is None:
        return "", "", ()
    loop, items, arrays = match.groups()
    if loop == "ROW_BLOCKS":  # A block may begin at any row, and have any number of rows.
        loop = "ROWS"
    return loop, f"({items} + 3) / 4" if loop == "FOURS" else items, tuple(arrays.split(", ")[1:])


@cache
def _headers() -> dict[str, Path]:
    """Return gradflow's headers by name; each is in the folder of the kernels that include it."""
    return {path.name: path for path in kernel_folder().rglob("*.h")}


def _with_headers(path: Path, included: set[str]) -> str:
    """Return a file with gradflow's headers inlined, each once."""

    def include(match: re.Match[str]) -> str:
        header = match[1]
        if header in included:
            return ""
        included.add(header)
        beside = path.parent / header
        return _with_headers(beside if beside.is_file() else _headers()[header], included)

    return re.sub(r'^#include "(\w+\.h)"\n', include, kernel_text(path), flags=re.MULTILINE)


def _element_type(real: str) -> str:
    c_type, bits, function = _REALS[real]
    return f"typedef {c_type} real;\ntypedef {bits} real_bits;\n#define GF_MATH(function) {function}\n"


@cache
def source_text(file: Path, real: str) -> str:
    """Return a kernel file for one element type, "float32" or "float64", with gradflow's headers inlined.

    CuPy's kernel cache hashes the source and the options, not the files found on an include path.
    """
    return _element_type(real) + _with_headers(file, set())


@dataclass(frozen=True)
class Form:
    """The element types that a kernel is compiled for under CUDA, and what it does besides.

    Attributes:
        real: its element type, "float32" or "float64".
        low_dtype: "float16" or "bfloat16", the type of the arrays in ``low``; None if there are none.
        low: the names of the arguments that point to 16-bit numbers.
        is_mirrored: True if it takes, after ``parameters``, an array for a 16-bit copy of the updated parameters.
        is_ending: True if it also ends the step (`ENDING_PARAMETERS`).
        is_wide: True if a row has a block of `WIDE_ROW_THREADS` threads, not a warp.
        is_of_members: True if it does the same for many members of a pack, blockIdx.z, whose arguments are in a table.
    """

    real: str
    low_dtype: str | None = None
    low: frozenset[str] = frozenset()
    is_mirrored: bool = False
    is_ending: bool = False
    is_wide: bool = False
    is_of_members: bool = False

    @property
    def is_plain(self) -> bool:
        """True if all kernels of a file can be compiled together."""
        return self.low_dtype is None and not (self.is_ending or self.is_wide or self.is_of_members)

    def __str__(self) -> str:
        return self.low_dtype or self.real


_MEMBERS = """
extern "C" __global__ void GF_BOUNDS {name}(const gf_argument *calls) {{
  const gf_argument *call = calls + {size} * (gf_index)blockIdx.z;
  gf_member_{name}({values});
}}
"""


@cache
def form_text(kernel: Kernel, form: Form) -> str:
    """Return the source of a kernel in a form: if it is plain, the whole file, and else the one kernel."""
    if form.is_plain:
        return source_text(kernel.file, form.real)

    def adapted(found: re.Match[str]) -> str:
        name, head, body = found.groups()
        if name != kernel.name:
            return ""
        if form.is_of_members:
            return head + body + _MEMBERS.format(name=name, size=len(kernel.parameters), values=_values(kernel, 0))
        head = re.sub(r"\breal (\*(\w+))", lambda real: f"gf_low {real[1]}" if real[2] in form.low else real[0], head)
        if form.is_mirrored:
            head = head.replace("real *parameters", "real *parameters, gf_low *gf_copies")
        if form.is_ending:
            head = head.removesuffix(")") + f", {_ENDING})"
        kind = "MIRRORED" if form.is_mirrored else "MIXED" if "real *" in head else "LOW"
        return (f"#define GF_{kind}\n{low_precision}" if form.low_dtype else "") + head + body

    begin = "#define GF_ENDING\n" * form.is_ending + "#define GF_WIDE\n" * form.is_wide
    begin += "#define GF_OF_MEMBERS\n" * form.is_of_members
    if form.low_dtype is not None:
        c_type, header = _LOW_PRECISION[form.low_dtype]
        begin += f"#include <{header}>\n"
        low_precision = f"typedef {c_type} gf_bits;\n" + _with_headers(_headers()["low_precision.h"], set())
    one_kernel = r"^(?=GF_KERNEL\((\w+))(GF_KERNEL\([^)]*\))( \{.*?^\}\n)"
    return begin + re.sub(one_kernel, adapted, source_text(kernel.file, form.real), flags=re.MULTILINE | re.DOTALL)


@cache
def block_kernels() -> dict[str, Kernel]:
    """Return the kernels that a thread block can run by itself: the portable ones, and a matmul."""
    path = _headers()["block_gemm.h"]
    (gemm,) = re.findall(r"^GF_KERNEL\((\w+),\s*([^)]*)\)", path.read_text("utf-8"), flags=re.MULTILINE)
    portable = {name: kernel for name, kernel in kernels("cuda").items() if kernel.loop}
    return portable | {"gemm": Kernel("gemm", path, _parsed(gemm[1]), False, False, "", "", ())}


@cache
def block_program_text(names: tuple[str, ...], real: str) -> str:
    """Return the source of ``run_programs``, which runs programs of some kernels, each in one thread block.

    Args:
        names: the kernels; in a program each is denoted by its place here.
        real: the element type, "float32" or "float64".
    """
    included: set[str] = set()
    library = block_kernels()
    parts = ["#define GF_BLOCK_PROGRAM\n", _element_type(real)]
    parts += [_with_headers(file, included) for file in dict.fromkeys(library[name].file for name in names)]
    cases = []
    for number, name in enumerate(names):
        size = 1 + len(library[name].parameters)
        cases.append(f"    case {number}: {name}({_values(library[name], 1)}); return call + {size};\n")
    text = _with_headers(_headers()["block_program.h"], included)
    return "".join(parts) + text.replace("GF_CASES", "".join(cases).strip())


def _values(kernel: Kernel, first: int) -> str:
    """Return the arguments of a kernel in CUDA, from call[first] on, an array of gf_argument."""

    def value(parameter: Parameter, place: int) -> str:
        if parameter.is_pointer:
            return f"({parameter.c_type} *)call[{place}].pointer"
        field = "number" if parameter.dtype("float64") == "float64" else "integer"
        return f"({parameter.c_type})call[{place}].{field}"

    return ", ".join(value(parameter, place) for place, parameter in enumerate(kernel.parameters, first))


def c_library_text(real: str, table: str) -> str:
    """Return all kernels for the C compiler and one element type, as one source.

    It defines ``const gf_entry table[]``, which ends with a null entry. Each entry holds the name of a kernel, a
    function that takes its arguments as an array of gf_value (backends/cpu/native.h) and runs it over a part of its
    range, and a function that returns the size of the range.
    """
    included: set[str] = set()
    library = kernels("c")
    parts = [_element_type(real), "#define GF_LINKAGE static\n"]
    parts += [_with_headers(file, included) for file in dict.fromkeys(kernel.file for kernel in library.values())]
    parts += ['#include "native.h"\n']
    parts += [_caller(kernel) for kernel in library.values()]
    entries = "".join(f'  {{"{name}", call_{name}, items_{name}}},\n' for name in library)
    parts += [f"const gf_entry {table}[] = {{\n{entries}  {{0, 0, 0}},\n}};\n"]
    return "\n".join(parts)


def _caller(kernel: Kernel) -> str:
    arguments, sizes = [], []
    for place, parameter in enumerate(kernel.parameters):
        if parameter.is_pointer:
            arguments.append(f"gf_values[{place}].pointer")
            continue
        field = "number" if parameter.dtype("float64") == "float64" else "integer"
        value = f"({parameter.c_type})gf_values[{place}].{field}"
        arguments.append(value)
        if re.search(rf"\b{parameter.name}\b", kernel.items):
            sizes.append(f"  const {parameter.c_type} {parameter.name} = {value};\n")

    def call(end: str) -> str:
        return f"  {kernel.name}(begin, {end}, {', '.join(arguments)});\n"

    attribute, body = "", call("end")
    if kernel.loop == "FOR" and "n_decayed" in (names := [parameter.name for parameter in kernel.parameters]):
        # Parameters that the rule treats alike (optimizers/update.h).
        hyper, n_decayed = (names.index(name) for name in ("hyper", "n_decayed"))
        body = (
            f"  for (gf_index stop; begin < end; begin = stop) {{\n"
            f"    stop = gf_range_end(gf_values[{hyper}].pointer, gf_values[{n_decayed}].integer, begin, end);\n"
            f"  {call('stop')}  }}\n"
        )
    if kernel.name == "column_sum":
        # Blocks of a constant width, for which the compiler keeps all sums in registers; then the rest.
        attribute, whole = "__attribute__((flatten)) ", call("begin + GF_COLUMN_BLOCK")
        body = f"  for (; end - begin >= GF_COLUMN_BLOCK; begin += GF_COLUMN_BLOCK)\n  {whole}  if (begin < end) {body}"
    return (
        f"{attribute}static void call_{kernel.name}(const gf_value *gf_values, long long begin, long long end) {{\n"
        f"{body}}}\n"
        f"static long long items_{kernel.name}(const gf_value *gf_values) {{\n"
        f"  (void)gf_values;\n{''.join(sizes)}  return {kernel.items};\n}}\n"
    )

"""Finding, reading and parsing the kernel sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradflow.backends import kernel_sources as sources
from gradflow.backends.kernel_sources import Parameter, kernel_folder, kernel_text, kernels, source_text

FOLDER = kernel_folder()
CUDA_ONLY = {"narrow_weight_gradient", "narrow_relu_gradient"}


@pytest.mark.parametrize("path", sorted({*FOLDER.rglob("*.cu"), *FOLDER.rglob("*.c")}), ids=lambda path: path.name)
def test_headers_are_inserted_once(path: Path) -> None:
    included = re.findall(r'#include "(\w+\.h)"', path.read_text())
    assert "gradflow.h" in included
    text = source_text(path, "float32")
    assert '#include "' not in text
    included += re.findall(r'#include "(\w+\.h)"', (FOLDER / "gradflow.h").read_text())
    for header in FOLDER.rglob("*.h"):
        first_line = header.read_text().splitlines()[0]
        assert text.count(first_line) == included.count(header.name)


def test_a_header_included_twice_is_inserted_at_the_first_place(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text('#include "b.h"\nfrom a\n')
    (tmp_path / "b.h").write_text("from b\n")
    (tmp_path / "kernel.cu").write_text('#include "a.h"\n#include "b.h"\nfrom kernel\n')
    text = source_text(tmp_path / "kernel.cu", "float64")
    assert text.splitlines()[3:] == ["from b", "from a", "from kernel"]


@pytest.mark.parametrize(
    ("dtype", "c_type", "bits", "function"),
    [("float32", "float", "int", "function##f"), ("float64", "double", "long long", "function")],
)
def test_element_type_stands_before_the_source(dtype: str, c_type: str, bits: str, function: str) -> None:
    lines = source_text(FOLDER / "copy.cu", dtype).splitlines()
    assert lines[:3] == [
        f"typedef {c_type} real;",
        f"typedef {bits} real_bits;",
        f"#define GF_MATH(function) {function}",
    ]


def package_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the package is installed in the folder."""
    (folder / "gradflow" / "backends").mkdir(parents=True)
    monkeypatch.setattr(sources, "__file__", str(folder / "gradflow" / "backends" / "sources.py"))


def put_header(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "gradflow.h").touch()
    return folder


def test_folder_inside_the_installed_package_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package_at(tmp_path, monkeypatch)
    (tmp_path / "pyproject.toml").touch()
    put_header(tmp_path / "kernels")
    installed = put_header(tmp_path / "gradflow" / "kernels")
    assert kernel_folder.__wrapped__() == installed


def test_folder_next_to_the_package_counts_only_in_a_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_at(tmp_path, monkeypatch)
    beside = put_header(tmp_path / "kernels")
    with pytest.raises(FileNotFoundError, match=r"kernel sources are missing: .*install gradflow again"):
        kernel_folder.__wrapped__()
    (tmp_path / "pyproject.toml").touch()
    assert kernel_folder.__wrapped__() == beside


def test_parameters_are_parsed() -> None:
    parameters = {parameter.name: parameter for parameter in kernels("cuda")["dropout"].parameters}
    names = ["x", "y", "clock", "threshold", "scale", "seed", "stream", "rows_before", "words_before", "n"]
    assert list(parameters) == names
    assert parameters["x"] == Parameter("x", "real", is_pointer=True)
    assert parameters["clock"].dtype("float32") == "int64"
    assert parameters["threshold"] == Parameter("threshold", "gf_word", is_pointer=False)
    assert parameters["seed"].dtype("float32") == "uint64"
    for real in ("float32", "float64"):
        assert parameters["x"].dtype(real) == parameters["scale"].dtype(real) == real


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.cu")), ids=lambda path: path.name)
def test_loops_name_exactly_the_arrays_that_they_index(path: Path) -> None:
    # On a GPU, lanes beyond the end run too: outside a vector they would read and write beyond the array.
    for body in re.findall(r"^GF_\w+\([^{]*\{.*?^\}", kernel_text(path), re.MULTILINE | re.DOTALL):
        for index, arrays in re.findall(r"GF_(?:FOR|COLUMNS_OF)\((\w+), \w+, ([^)]*)\)", body):
            assert set(arrays.split(", ")) == set(re.findall(rf"(\w+)\[{index}\]", body)), body
        for block, arrays in re.findall(r"GF_FOURS\((\w+), \w+, ([^)]*)\)", body):
            assert set(arrays.split(", ")) == set(re.findall(rf"(\w+)\[(?:4 \* {block} \+ lane|i)\]", body)), body


def test_every_kernel_is_found() -> None:
    for language, endings in (("cuda", ("*.cu",)), ("c", ("*.cu", "*.c"))):
        written = {
            name
            for ending in endings
            for path in FOLDER.rglob(ending)
            for name in re.findall(r"^GF_KERNEL\((\w+)", kernel_text(path), re.MULTILINE)
        }
        assert written - (CUDA_ONLY if language == "c" else set()) == kernels(language).keys()


def test_an_activation_gets_a_form_with_a_bias(tmp_path: Path) -> None:
    forward = """GF_KERNEL(cut_forward, const real *x, real *y, real low, real high, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = x[i] > high ? high : 0.5 * x[i] + low;
}
"""
    backward = forward.replace("cut_forward", "cut_backward").replace("*x", "*y").replace("x", "y")
    (tmp_path / "cut.cu").write_text(forward + "\n" + backward)
    text = kernel_text(tmp_path / "cut.cu")
    assert text.startswith(forward)
    assert text.endswith(backward)
    heads = re.findall(r"^GF_KERNEL\((\w+), (.*)\) {", text, re.MULTILINE)
    assert heads[1] == (
        "bias_cut_forward",
        "const real *x, const real *bias, real *y, real low, real high, gf_index rows, gf_index columns",
    )
    assert [name for name, _ in heads] == ["cut_forward", "bias_cut_forward", "cut_backward"]
    assert "out[j] = (in[j] + bias[j]) > high ? high : 0.5 * (in[j] + bias[j]) + low;\n" in text


def test_both_compilers_read_the_same_file() -> None:
    for name, kernel in kernels("c").items():
        if kernel.file.suffix == ".cu":
            assert kernel == kernels("cuda")[name]


def test_readme_names_every_file_and_no_other() -> None:
    named = set(re.findall(r"`([\w/]+\.(?:cu|c|h))`", (FOLDER / "README.md").read_text()))
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*")}
    assert named == {file for file in files if file.endswith((".cu", ".c", ".h"))}

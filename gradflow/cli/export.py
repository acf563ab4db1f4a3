"""``gradflow export``: writes a trained network as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gradflow.cli.saved_run import saved_run
from gradflow.errors import DataError
from gradflow.export import onnx_model
from gradflow.files import write_atomically

_SUFFIX = ".onnx"


def export(
    model: Annotated[Path, typer.Argument(help="Run folder, the file of a model, or a checkpoint.", metavar="MODEL")],
    file: Annotated[Path, typer.Argument(help="File to write, such as model.onnx.", metavar="FILE")],
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace an existing file.")] = False,
) -> None:
    """Write a trained network as an ONNX model, for programs in other languages and on other devices.

    The model computes what gradflow predicts, from the columns of user data to class names.
    """
    if file.suffix.lower() != _SUFFIX:
        raise DataError(f"{file}: the name of an ONNX model ends in {_SUFFIX}; other formats are not supported")
    if file.exists() and not overwrite:
        raise DataError(f"{file} already exists; pass another name, or --overwrite to replace it")
    graph = onnx_model(saved_run(model, "numpy").network)
    write_atomically(file, graph.SerializeToString(), through_links=True)
    console = Console()
    for kind, entries in (("inputs", graph.graph.input), ("outputs", graph.graph.output)):
        console.print(f"{kind}: {', '.join(map(_shown, entries))}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {file}", markup=False, highlight=False, soft_wrap=True)


def _shown(entry: Any) -> str:
    """Return name, type and shape of an input or output, such as "age: float64 (batch, 1)"."""
    from onnx import TensorProto, helper

    tensor = entry.type.tensor_type
    is_text = tensor.elem_type == TensorProto.STRING
    kind = "string" if is_text else helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = ", ".join(size.dim_param or str(size.dim_value) for size in tensor.shape.dim)
    return f"{entry.name}: {kind} ({shape})"

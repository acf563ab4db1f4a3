"""Checkpoint files: vectors in safetensors, the rest as JSON in the header, and a checksum over both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from gradflow.errors import FileFormatError
from gradflow.files import write_atomically
from gradflow.installation import update_command
from gradflow.json_shape import check_shape
from gradflow.storage import checksum, read_tensors

FORMAT_VERSION = 1

HEADER = "gradflow-checkpoint"
"""Header entry that marks a file as a checkpoint."""


class Snapshot(NamedTuple):
    """A training run between two steps.

    Attributes:
        vectors: the arrays on the device, by name.
        record: the JSON data: the run ("run"), the current description of the network ("network"), and how far the run
            has come ("progress").
    """

    vectors: Mapping[str, np.ndarray]
    record: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write the snapshot to one file, atomically.

        Raises:
            OSError: if the file cannot be written; an existing file is left unchanged.
        """
        text = json.dumps({"version": FORMAT_VERSION, **self.record})
        # A single entry, since safetensors does not write several in a fixed order.
        header = {HEADER: checksum(self.vectors, text) + text}
        write_atomically(path, safetensors.numpy.save(dict(self.vectors), metadata=header))

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """Read a file written by `write`.

        Raises:
            FileFormatError: if it is damaged, from a newer version, or not a checkpoint.
            OSError: if it cannot be read.
        """
        vectors, metadata = read_tensors(path, "checkpoint")
        entry = metadata.get(HEADER)
        if not isinstance(entry, str):
            raise FileFormatError(f"{path} is a safetensors file, but not a gradflow checkpoint")
        written, text = entry[:_CHECKSUM_LENGTH], entry[_CHECKSUM_LENGTH:]
        if written != checksum(vectors, text):
            raise FileFormatError(f"{path} is damaged: its checksum does not match its contents")
        try:
            record = json.loads(text)
            check_shape(record, {"version": int}, "the record")
        except (ValueError, RecursionError, FileFormatError) as error:
            raise FileFormatError(f"{path} is damaged: {error}") from error
        if record["version"] > FORMAT_VERSION:
            raise NewerFormatError(
                f"{path} has checkpoint format {record['version']}, but this gradflow only reads formats up to "
                f"{FORMAT_VERSION}; update gradflow: {update_command()}"
            )
        try:
            check_shape(record, _RECORD, "the record")
        except FileFormatError as error:
            raise FileFormatError(f"{path} is damaged: {error}") from error
        return cls(vectors, record)


class NewerFormatError(FileFormatError):
    """An intact checkpoint from a newer gradflow."""


_CHECKSUM_LENGTH = 64
_RECORD = {
    "run": {
        "network": dict,
        "initial_state": str,
        "settings": {"optimizer": dict, "epochs": int},
        "data": str,
        "validation_data": (str, NoneType),
    },
    "checkpoint": {
        "every_epochs": (int, NoneType),
        "every_steps": (int, NoneType),
        "every_minutes": (int, float, NoneType),
        "keep": int,
    },
    "progress": {
        "batches_done": int,
        "clock": [int],
        "history": {"values": {str: [float]}, "seconds": float, "stopped_by": str},
    },
}
"""The shape of a record; `RunState.restore` checks the values against the run."""

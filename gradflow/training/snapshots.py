"""A checkpoint as a file: vectors in safetensors, the rest as JSON in its header, and a checksum over both."""

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

__all__ = ["FORMAT_VERSION", "HEADER", "Snapshot"]

FORMAT_VERSION = 1

HEADER = "gradflow-checkpoint"
"""The entry in the header of the file that makes it a checkpoint."""


class Snapshot(NamedTuple):
    """A training run between two steps.

    Attributes:
        vectors: what lies on the device, by name.
        record: what JSON holds: of which run it is ("run"), its network as it is now ("network"), and how far it has
            come ("progress").
    """

    vectors: Mapping[str, np.ndarray]
    record: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write it to one file, whole or not at all.

        Raises:
            OSError: if the file cannot be written; a former file stays as it was.
        """
        text = json.dumps({"version": FORMAT_VERSION, **self.record})
        # One entry, since safetensors writes several in an order that differs between equal files.
        header = {HEADER: checksum(self.vectors, text) + text}
        write_atomically(path, safetensors.numpy.save(dict(self.vectors), metadata=header))

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """Read what `write` wrote.

        Raises:
            FileFormatError: if it is damaged, from a newer version, or no checkpoint.
            OSError: if it cannot be read.
        """
        vectors, metadata = read_tensors(path, "checkpoint")
        entry = metadata.get(HEADER)
        if not isinstance(entry, str):
            raise FileFormatError(f"{path} is a safetensors file, but no checkpoint of gradflow's")
        written, text = entry[:_CHECKSUM_LENGTH], entry[_CHECKSUM_LENGTH:]
        if written != checksum(vectors, text):
            raise FileFormatError(f"{path} is damaged: its checksum is not that of its contents")
        try:
            record = json.loads(text)
            check_shape(record, {"version": int}, "the record")
        except (ValueError, RecursionError, FileFormatError) as error:
            raise FileFormatError(f"{path} is damaged: {error}") from error
        if record["version"] > FORMAT_VERSION:
            raise NewerFormatError(
                f"{path} has checkpoint format {record['version']}, and this gradflow reads formats up to "
                f"{FORMAT_VERSION}; update gradflow: {update_command()}"
            )
        try:
            check_shape(record, _RECORD, "the record")
        except FileFormatError as error:
            raise FileFormatError(f"{path} is damaged: {error}") from error
        return cls(vectors, record)


class NewerFormatError(FileFormatError):
    """A checkpoint that is whole, but from a newer gradflow."""


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
"""What a record has; what its numbers must be follows from the run (`RunState.restore`)."""

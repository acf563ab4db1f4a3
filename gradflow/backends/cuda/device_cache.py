"""Facts about devices that are kept on disk between runs: which matmuls failed the self-check, which are fast."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gradflow.errors import FileFormatError
from gradflow.files import FileLock, read_json, write_json


class DeviceCache:
    """A JSON file in the user's cache folder, with entries by name for each device.

    A damaged file counts as empty, and is replaced as a whole.

    Args:
        name: the name of the file.
        identity: everything the entries depend on: the device, its driver, and versions.
    """

    def __init__(self, name: str, identity: str) -> None:
        self._name = name
        self._identity = identity

    @property
    def path(self) -> Path:
        """The file: in XDG_CACHE_HOME or else ~/.cache.

        Raises:
            RuntimeError: if the user has no home.
        """
        folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(folder) / "gradflow" / self._name

    @property
    def is_writable(self) -> bool:
        """True if the file can be written, or created."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.access(self.path.parent, os.W_OK)
        except (OSError, RuntimeError):
            return False

    def read(self) -> dict[str, Any] | None:
        """Return the entries of this device; None if nothing is known about it."""
        entries = self._read_all().get(self._identity)
        return entries if isinstance(entries, dict) else None

    def add(self, entries: dict[str, Any]) -> bool:
        """Add entries for this device, except those that exist; return False if the file cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                everything = self._read_all()
                existing = everything.get(self._identity)
                everything[self._identity] = entries | (existing if isinstance(existing, dict) else {})
                write_json(self.path, everything)
        except (OSError, RuntimeError):
            return False
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing, unless one of them takes more than a second."""
        lock = FileLock(self.path.with_suffix(".lock"))
        for _ in range(100):
            if lock.acquire() is None:
                break
            time.sleep(0.01)
        try:
            yield
        finally:
            lock.release()

    def _read_all(self) -> dict[str, Any]:
        with suppress(OSError, RuntimeError, FileFormatError):
            return read_json(self.path)
        return {}

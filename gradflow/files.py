"""Writing a file so that it is there whole, or not at all; JSON that tells whether it is what was written; and a file
that one process holds at a time."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradflow.errors import FileFormatError

__all__ = ["FileLock", "read_json", "write_atomically", "write_json"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write to a temporary file in the same folder, sync it to the disk, and rename it over ``path``.

    Raises:
        OSError: if the folder is missing or cannot be written, or the disk is full; a former file stays as it was.
    """
    import tempfile  # brings modules for archives, which would slow the import of gradflow down

    target = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        # A user knows the file, and not the temporary one. The errno makes it an error of the same class.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write an object as JSON, with a checksum of it as its last entry, whole or not at all.

    Raises:
        OSError: as `write_atomically` does.
    """
    text = json.dumps({**content, "checksum": _checksum(content)}, indent=2)
    write_atomically(path, (text + "\n").encode())


def read_json(path: str | os.PathLike[str], *entries: str) -> dict[str, Any]:
    """Read what `write_json` wrote: an object with these entries, and maybe others.

    Raises:
        FileFormatError: if the file has been changed since, or is another one.
        OSError: if it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(Path(path).read_bytes())
        is_whole = isinstance(content, dict) and content.pop("checksum", None) == _checksum(content)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: it is not JSON: {error}") from error
    if not is_whole:
        raise FileFormatError(f"{path} is damaged, or was edited: its checksum is not that of its contents")
    if missing := [name for name in entries if name not in content]:
        raise FileFormatError(f"{path} is another file than its name says: it has no entry {missing[0]!r}")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of an object as JSON without spaces to choose, as 64 hexadecimal digits."""
    import hashlib  # brings OpenSSL, which would slow the import of gradflow down

    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class FileLock:
    """A file that one process holds at a time, with its id inside.

    The operating system lets go of it when the process ends, however it ends: what a killed process leaves is a file
    that no one holds. Where a file system has no locks, everyone gets it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> int | None:
        """Take it; or the id of the process that has it.

        Raises:
            OSError: if the file cannot be made.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            owner = os.pread(descriptor, 32, 0) if hasattr(os, "pread") else b""
            os.close(descriptor)
            return int(owner) if owner.strip().isdigit() else 0
        except OSError:
            pass
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return None

    @property
    def is_in_place(self) -> bool:
        """Whether the file that is held is still the one at its path: not if the folder was removed, or made anew."""
        assert self._descriptor is not None
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

"""Writing a file so that it is there whole, or not at all; JSON that tells whether it is what was written; and a file
that one process holds at a time."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradflow.errors import FileFormatError

__all__ = [
    "FileLock",
    "json_content",
    "read_json",
    "read_regular_file",
    "write_atomically",
    "write_json",
    "write_together",
]


def write_atomically(path: str | os.PathLike[str], content: bytes, *, through_links: bool = False) -> None:
    """Write to a temporary file in the same folder, sync it to the disk, and rename it over ``path``.

    A file that was there keeps its permissions; a new one has those that the umask leaves.

    Args:
        path: the file.
        content: all that it will hold.
        through_links: where ``path`` is a symbolic link, write the file that it points to, as users expect of paths of
            their own. Otherwise the link is replaced: what lies in a run folder changes no file outside it.

    Raises:
        OSError: if the folder is missing or cannot be written, the disk is full, or ``path`` is a device, a pipe or a
            folder; a previous file stays as it was.
    """
    try:
        target = Path(os.path.realpath(path) if through_links else path)
        temporary = _written_beside(target, content, _mode_to_keep(path, through_links))
        try:
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        # A user knows the file, and not the temporary one. The errno makes it an error of the same class.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_together(contents: Mapping[Path, bytes], removed: Iterable[Path] = ()) -> None:
    """Write files of one folder: all of them, or none where there is no room for all.

    All are written under temporary names and synced first. Then the previous last file goes, the others are renamed,
    those to be removed are, and the last is renamed: whoever finds it finds all of them, and nothing that they replace.

    Raises:
        OSError: if they cannot be written; if it is for want of room, the previous files stay as they were.
    """
    temporaries: list[Path] = []
    *others, last = contents
    try:
        for path, content in contents.items():
            temporaries.append(_written_beside(path, content, _mode_to_keep(path, through_links=False)))
        last.unlink(missing_ok=True)
        for path, temporary in zip(others, temporaries, strict=False):
            os.replace(temporary, path)
        for path in removed:
            path.unlink(missing_ok=True)
        os.replace(temporaries[-1], last)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(last.parent)


def _written_beside(target: Path, content: bytes, mode: int | None) -> Path:
    """A synced temporary file with this content, in the folder of the target."""
    # Not the whole name: with the random part it could be longer than file systems allow.
    temporary = target.parent / f".{target.name[:32]}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)  # the umask took from it what the previous file allowed
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _mode_to_keep(path: str | os.PathLike[str], through_links: bool) -> int | None:
    """The permissions of the file that will be replaced; None if there is none, or a link that will be."""
    try:
        found = os.stat(path, follow_symlinks=through_links).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found):
        return None
    if not (stat.S_ISREG(found) or stat.S_ISDIR(found)):
        raise OSError(errno.EINVAL, "a device, pipe or socket cannot be replaced by a file")
    return stat.S_IMODE(found) & 0o777


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
    write_atomically(path, json_content(content))


def json_content(content: Mapping[str, Any]) -> bytes:
    """The bytes of the file that `write_json` writes."""
    text = json.dumps({**content, "checksum": _checksum(content)}, indent=2)
    return (text + "\n").encode()


def read_regular_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file; not those of a pipe or a device, which may have no end.

    Raises:
        FileFormatError: if it is no regular file.
        OSError: if it cannot be read.
    """
    # Opening a pipe would wait for someone to write to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileFormatError(f"{path} is not a regular file")
        return file.read()


def read_json(path: str | os.PathLike[str], *entries: str) -> dict[str, Any]:
    """Read what `write_json` wrote: an object with these entries, and maybe others.

    Raises:
        FileFormatError: if the file has been changed since, or is another one.
        OSError: if it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(read_regular_file(path))
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
    that no one holds. A forked child has no part in its parent's lock. Where a file system has no locks, everyone gets
    it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> int | None:
        """Take it; or the id of the process that has it.

        Raises:
            OSError: if the file cannot be made, or what is there was not made by a lock: nothing is written to that.
        """
        descriptor = _open_lock(self._path)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            owner = _owner(descriptor)
            os.close(descriptor)
            return int(owner) if owner.isdigit() else 0
        except OSError:
            pass
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        _held.add(self)
        return None

    @property
    def is_in_place(self) -> bool:
        """True if this process holds the file at the path: not if the folder was removed, or made anew."""
        try:
            return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            _unlock(self._descriptor)
            self.forget()

    def forget(self) -> None:
        """Close the file, and leave the lock to the process that shares it."""
        _held.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: set[FileLock] = set()
"""The locks of this process: a fork copies their descriptors, and with a copy open a lock outlives its owner."""

_OWNER_BYTES = 32


def _forget_locks_of_the_parent() -> None:
    for lock in list(_held):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks_of_the_parent)


def _open_lock(path: Path) -> int:
    """Open or make the file of a lock.

    Raises:
        OSError: if that is not possible, or the path leads to a file that something else has written: through a link
            it could be any file of the user's.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(error.errno, f"{path.name} is a symbolic link, which is not followed; remove it") from error
        raise
    found = os.fstat(descriptor)
    is_ours = stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_size <= _OWNER_BYTES
    # Who makes the file writes to it a moment later.
    if is_ours and (_owner(descriptor) or b"0").isdigit():
        return descriptor
    os.close(descriptor)
    raise FileExistsError(errno.EEXIST, f"{path.name} is not the lock of a training; move it away")


def _owner(descriptor: int) -> bytes:
    """What the file of a lock holds; nothing on Windows, which lets no one read what another process has locked."""
    try:
        content = os.read(descriptor, _OWNER_BYTES)
    except PermissionError:
        return b""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return content.strip()


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(descriptor: int) -> None:
    """Let go of the lock now: closing would leave it to a child that was forked without Python's knowledge."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)

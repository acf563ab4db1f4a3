"""Atomic file writes, JSON files with a checksum, and a lock file that one process holds at a time."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gradflow.errors import FileFormatError


def write_atomically(path: str | os.PathLike[str], content: bytes, *, through_links: bool = False) -> None:
    """Write to a temporary file in the same folder, sync it to disk, and rename it to ``path``.

    An existing file keeps its permissions; a new one gets those that the umask allows.

    Args:
        path: the file.
        content: its complete content.
        through_links: if ``path`` is a symbolic link, write the file that it points to, as users expect for their own
            paths. Otherwise the link is replaced, so that nothing in a run folder changes a file outside it.

    Raises:
        OSError: if the folder is missing or not writable, the disk is full, or ``path`` is a device, a pipe or a
            folder; a previous file is left unchanged.
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
        # Name the user's file instead of the temporary one. The errno selects the same exception class.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def writing_atomically(path: str | os.PathLike[str], *, overwrite: bool) -> Generator[IO[bytes], None, None]:
    """Open a temporary file in the same folder for writing; at the end of the context, it becomes the file ``path``.

    For content that is too large for `write_atomically`. After an exception, nothing has changed and nothing is left.

    Args:
        path: the file.
        overwrite: True if a file that appears there in the meantime may be replaced.

    Raises:
        OSError: as `write_atomically`; FileExistsError without ``overwrite``.
    """
    target = Path(os.path.realpath(path))
    temporary = _beside(target)
    try:
        mode = _mode_to_keep(target, through_links=True)
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                os.chmod(temporary, mode)
            if not overwrite and os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise  # of another file, which was read meanwhile
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_together(contents: Mapping[Path, bytes], removed: Iterable[Path] = ()) -> None:
    """Write several files of one folder: all of them, or none if there is not enough space.

    All files are first written under temporary names and synced. Then the previous version of the last file is deleted,
    the other files are renamed, the files in ``removed`` are deleted, and the last file is renamed. If the last file
    exists, all of them are therefore complete, and nothing that they replace is left.

    Raises:
        OSError: if the files cannot be written; if the disk is full, the previous files are left unchanged.
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
    """Write a synced temporary file with this content in the target's folder, and return its path."""
    temporary = _beside(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)  # os.open applied the umask, which the previous file's mode may exceed
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _beside(target: Path) -> Path:
    """Return the path of a temporary file in the target's folder."""
    # Not the whole name, which together with the random part could exceed the file system's limit.
    return target.parent / f".{target.name[:32]}.{os.urandom(8).hex()}"


def _mode_to_keep(path: str | os.PathLike[str], through_links: bool) -> int | None:
    """Return the permissions of the file to replace; None if there is no file, or a link will be replaced."""
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
    """Make the rename itself durable, if the system can open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write an object atomically as JSON, with its checksum as the last entry.

    Raises:
        OSError: as in `write_atomically`.
    """
    write_atomically(path, json_content(content))


def json_content(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of the file that `write_json` writes."""
    text = json.dumps({**content, "checksum": _checksum(content)}, indent=2)
    return (text + "\n").encode()


def read_regular_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file; pipes and devices are rejected, since they may never end.

    Raises:
        FileFormatError: if it is not a regular file.
        OSError: if it cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileFormatError(f"{path} is not a regular file")
        return file.read()


def read_json(path: str | os.PathLike[str], *entries: str) -> dict[str, Any]:
    """Read a file written by `write_json`: an object with at least these entries.

    Raises:
        FileFormatError: if the file was modified, or lacks one of the entries.
        OSError: if it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(read_regular_file(path))
        is_whole = isinstance(content, dict) and content.pop("checksum", None) == _checksum(content)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: it is not JSON: {error}") from error
    if not is_whole:
        raise FileFormatError(f"{path} is damaged or was edited: its checksum does not match its contents")
    if missing := [name for name in entries if name not in content]:
        raise FileFormatError(f"{path} is not the file that its name suggests: it has no entry {missing[0]!r}")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an object as JSON with fixed spacing, as 64 hex digits."""
    import hashlib  # imports OpenSSL, which would slow down the import of gradflow

    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class FileLock:
    """A lock file that one process holds at a time; it contains the id of that process.

    The operating system releases the lock when the process ends, even if it is killed; the file that remains is
    unlocked. A forked child does not share its parent's lock. On file systems without locks, acquiring always succeeds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> int | None:
        """Acquire the lock and return None, or return the id of the process that holds it (0 if unknown).

        Raises:
            OSError: if the file cannot be created, or a file that is not a lock exists there; that one is not modified.
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
        """True if this process holds the file at the path; False if the folder was removed or recreated."""
        try:
            return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            _unlock(self._descriptor)
            self.forget()

    def forget(self) -> None:
        """Close the file without unlocking it, which leaves the lock to the process that shares it."""
        _held.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: set[FileLock] = set()
"""Locks of this process: a fork copies their descriptors, and an open copy would keep a lock past its owner's end."""

_OWNER_BYTES = 32


def _forget_locks_of_the_parent() -> None:
    for lock in list(_held):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks_of_the_parent)


def _open_lock(path: Path) -> int:
    """Open or create a lock file.

    Raises:
        OSError: if that is not possible, or the path leads to a file that is not a lock; through a link it could be any
            of the user's files.
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
    # An empty file counts as a lock: its creator writes to it a moment later.
    if is_ours and (_owner(descriptor) or b"0").isdigit():
        return descriptor
    os.close(descriptor)
    raise FileExistsError(errno.EEXIST, f"{path.name} is not a training lock; move it elsewhere")


def _owner(descriptor: int) -> bytes:
    """Return the content of a lock file; empty on Windows, where a file locked by another process is unreadable."""
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
    """Unlock explicitly: after only a close, a child forked without Python's knowledge would still hold the lock."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)

"""Text files: their encoding and compression, and detection of other file types mistaken for text."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from gradflow.checks import text
from gradflow.errors import DataError
from gradflow.installation import pip_install

_START = 512
"""Bytes at the start of a file that are looked at."""
_OTHER_FILES = (
    (0, b"PK\x03\x04", "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV"),
    (0, b"\xd0\xcf\x11\xe0", "an Excel workbook; save the sheet as CSV"),
    (0, b"PAR1", "a Parquet file; read it with gradflow.data.Parquet"),
    (0, b"ARROW1", "an Arrow file; read it with gradflow.data.Arrow"),
    (0, b"\x93NUMPY", "a NumPy array; gradflow.data.open_file reads it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (0, b"\x04\x22\x4d\x18", "compressed with lz4; unpack it, or compress it with gzip"),
    (257, b"ustar", "a tar archive; unpack it"),
)
"""Place and value of the bytes that mark other kinds of files, and what to do about them."""


def _opened_gzip(path: Path) -> IO[bytes]:
    import gzip  # like the other modules of compression, needed by few files

    return cast(IO[bytes], gzip.open(path))


def _opened_bzip2(path: Path) -> IO[bytes]:
    import bz2

    return bz2.open(path)


def _opened_xz(path: Path) -> IO[bytes]:
    import lzma

    return lzma.open(path)


def _opened_zstd(path: Path) -> IO[bytes]:
    import pyarrow

    stream: Any = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    return io.BufferedReader(stream)


class _Compression(NamedTuple):
    name: str
    first_bytes: tuple[bytes, ...]
    opened: Callable[[Path], IO[bytes]]


_SKIPPABLE_FRAMES = tuple(bytes([byte]) + b"\x2a\x4d\x18" for byte in range(0x50, 0x60))
"""Frames without content, with which pzstd begins (RFC 8878, section 3.1.2)."""
_BZIP2 = b"1AY&SY", b"\x17rE8P\x90"
_COMPRESSIONS = (
    _Compression("gzip", (b"\x1f\x8b",), _opened_gzip),
    # A name of a column might begin with BZh, which a number and the marker of a block or of the end follow.
    _Compression("bzip2", tuple(b"BZh%d" % size + mark for size in range(1, 10) for mark in _BZIP2), _opened_bzip2),
    _Compression("xz", (b"\xfd7zXZ",), _opened_xz),
    _Compression("zstd", (b"\x28\xb5\x2f\xfd", *_SKIPPABLE_FRAMES), _opened_zstd),
)


def _compression_of(start: bytes) -> _Compression | None:
    return next((kind for kind in _COMPRESSIONS if start.startswith(kind.first_bytes)), None)


class TextFile:
    """A text file, possibly compressed with gzip, bzip2, xz or zstd, whatever its name.

    Args:
        path: the file.
        encoding: the encoding of the text; a byte-order mark, which Excel writes, is skipped.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: for a folder, a file of another type, an encoding that Python does not know, or zstd without pyarrow.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, _encoding_name(encoding)
        if path.is_dir():
            raise DataError(f"{path} is a folder; pass a single file")
        with open(path, "rb") as file:
            start = file.read(_START)
        self._compression = _compression_of(start)
        if self._compression is not None:
            if self._compression.name == "zstd":
                _check_pyarrow(path)
            with self._explained(), self._opened() as file:
                start = file.read(_START)
            if _compression_of(start) is not None:
                raise DataError(f"{path} is compressed twice; unpack it once")
        for place, first_bytes, kind in _OTHER_FILES:
            if start.startswith(first_bytes, place):
                raise DataError(f"{path} is {kind}")
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and self.encoding == "utf-8":
            raise DataError(f"{path} is text in UTF-16, as Excel's \"Unicode text\" is; pass encoding='utf-16'")
        if b"\0" in start[:8] and self.encoding in ("utf-8", "ascii", "cp1252"):
            raise DataError(
                f"{path} contains zero bytes, which text does not; if it is UTF-16, pass encoding='utf-16-le'"
            )

    @contextmanager
    def opened(self) -> Generator[IO[str], None, None]:
        """Open the file for reading, as a context that turns decoding errors into a DataError.

        Raises:
            DataError: for bytes that are not valid in the encoding, and for damaged or incomplete compressed data.
        """
        try:
            encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
            with self._explained(), self._opened() as file, io.TextIOWrapper(file, encoding, newline="") as decoded:
                yield decoded
        except UnicodeError as error:
            raise DataError(
                f"{self.path}, line {self._undecodable_line()}: not valid {self.encoding}: "
                f"{getattr(error, 'reason', error)}; pass encoding=, such as 'cp1252' for many Windows files, or save "
                "the file as UTF-8"
            ) from error

    @contextmanager
    def _explained(self) -> Generator[None, None, None]:
        """Turn errors of decompression into a DataError that names the file."""
        try:
            yield
        except Exception as error:
            if self._compression is None or not _is_of_compression(error):
                raise
            raise DataError(
                f"{self.path} is damaged or incomplete: its {self._compression.name} data cannot be read: {error}"
            ) from error

    def _opened(self) -> IO[bytes]:
        return open(self.path, "rb") if self._compression is None else self._compression.opened(self.path)

    def _undecodable_line(self) -> int:
        """Return the number of the first undecodable line, or of the last one if the file ends within a character."""
        decoder, lines = codecs.getincrementaldecoder(self.encoding)(), 0
        with self._opened() as file:
            for line in file:
                lines += 1
                try:
                    decoder.decode(line)
                except UnicodeError:
                    break
        return lines


def _is_of_compression(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno is None  # errors of the operating system have a number
    return isinstance(error, EOFError) or type(error).__module__ in ("zlib", "_lzma")


def _check_pyarrow(path: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"{path} is compressed with zstd, which needs pyarrow; install: {pip_install('arrow')}; or compress the "
            "file with gzip, bzip2 or xz"
        ) from error


def _encoding_name(encoding: str) -> str:
    try:
        "".encode(text("encoding", encoding))
    except (LookupError, ValueError) as error:
        raise DataError(f"{error}; common ones are 'utf-8', 'utf-16' and 'cp1252'") from error
    return codecs.lookup(encoding).name.removesuffix("-sig")

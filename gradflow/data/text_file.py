"""Text files: their encoding, gzip compression, and detection of other file types mistaken for text."""

from __future__ import annotations

import codecs
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gradflow.checks import text
from gradflow.errors import DataError

_GZIP = b"\x1f\x8b"
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"PAR1": "a Parquet file; read it with gradflow.data.Parquet",
    b"ARROW1": "an Arrow file; read it with gradflow.data.Arrow",
    b"BZh": "compressed with bzip2; unpack it, or compress it with gzip",
    b"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, or compress it with gzip",
}


class TextFile:
    """A text file, possibly compressed with gzip.

    Args:
        path: the file.
        encoding: the encoding of the text; a byte-order mark, which Excel writes, is skipped.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: for a folder, a file of another type, or an encoding that Python does not know.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, _encoding_name(encoding)
        if path.is_dir():
            raise DataError(f"{path} is a folder; pass a single file")
        with open(path, "rb") as file:
            start = file.read(8)
        for first_bytes, kind in _OTHER_FILES.items():
            if start.startswith(first_bytes):
                raise DataError(f"{path} is {kind}")
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and self.encoding == "utf-8":
            raise DataError(f"{path} is text in UTF-16, as Excel's \"Unicode text\" is; pass encoding='utf-16'")
        self._is_compressed = start.startswith(_GZIP)
        if not self._is_compressed and b"\0" in start and self.encoding in ("utf-8", "ascii", "cp1252"):
            raise DataError(
                f"{path} contains zero bytes, which text does not; if it is UTF-16, pass encoding='utf-16-le'"
            )

    @contextmanager
    def opened(self) -> Generator[IO[str], None, None]:
        """Open the file for reading, as a context that turns decoding errors into a DataError.

        Raises:
            DataError: for bytes that are not valid in the encoding, and for damaged gzip data.
        """
        try:
            encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
            with self._opened("rt", newline="", encoding=encoding) as file:
                yield file
        except UnicodeError as error:
            raise DataError(
                f"{self.path}, line {self._undecodable_line()}: not valid {self.encoding}: "
                f"{getattr(error, 'reason', error)}; pass encoding=, such as 'cp1252' for many Windows files, or save "
                "the file as UTF-8"
            ) from error
        except Exception as error:
            if self._is_compressed and _is_of_gzip(error):
                raise DataError(f"{self.path} is damaged: its gzip data cannot be read: {error}") from error
            raise

    def _opened(self, mode: str, **arguments: Any) -> IO[Any]:
        if not self._is_compressed:
            return open(self.path, mode, **arguments)
        import gzip  # few files need it

        opened: Any = gzip.open(self.path, mode, **arguments)  # noqa: SIM115
        return opened  # type: ignore[no-any-return]

    def _undecodable_line(self) -> int:
        """Return the number of the first undecodable line, or of the last one if the file ends within a character."""
        decoder, lines = codecs.getincrementaldecoder(self.encoding)(), 0
        with self._opened("rb") as file:
            for line in file:
                lines += 1
                try:
                    decoder.decode(line)
                except UnicodeError:
                    break
        return lines


def _is_of_gzip(error: Exception) -> bool:
    import zlib

    return isinstance(error, EOFError | OSError | zlib.error)


def _encoding_name(encoding: str) -> str:
    try:
        "".encode(text("encoding", encoding))
    except (LookupError, ValueError) as error:
        raise DataError(f"{error}; common ones are 'utf-8', 'utf-16' and 'cp1252'") from error
    return codecs.lookup(encoding).name.removesuffix("-sig")

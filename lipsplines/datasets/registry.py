"""The files that the library knows: where each comes from, and how it is recognised."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import zlib
from pathlib import Path

__all__ = ["DataError", "DataSet", "DataWarning", "File", "data_set"]


class DataError(OSError):
    """A data set is not to be had: it is missing and cannot be fetched, or a file is wrong."""


class DataWarning(UserWarning):
    """A file of data was found and cannot be used, or other data take the place of some."""


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes
    ----------
    name
        Path below a folder of data, with ``/``, such as ``"bsd/bsd68/test001.png"``.
    size, sha256
        Length in bytes and SHA-256 of the content: of the file itself, or of what it holds if
        compressed.
    transfer
        Length of the file at its source, in bytes; a compressed file may have another one.
    urls
        Addresses, tried in this order.
    compressed
        Whether the file is a gzip archive of the content. Its own bytes depend on who compressed
        it, so only the content is compared.
    """

    name: str
    size: int
    sha256: str
    transfer: int
    urls: tuple[str, ...]
    compressed: bool

    @property
    def limit(self) -> int:
        """Bytes that the file itself has at most; an archive may be a little above its content."""
        return self.size + self.size // 100 + 1024 if self.compressed else self.size

    def content(self, data: bytes) -> bytes:
        """The content of a file with these bytes, which is the registered one.

        Raises
        ------
        ValueError
            Saying in a few words what is wrong with the bytes.
        """
        content = _decompressed(data, self.size) if self.compressed else data
        if len(content) != self.size:
            raise ValueError(f"it holds {len(content):,} bytes instead of {self.size:,}")
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError("its SHA-256 is not the registered one")
        return content

    def read(self, path: Path) -> bytes:
        """Read a file once, and return its content if it is the registered one.

        Raises
        ------
        ValueError
            Saying in a few words why it is not; it is not read if it is far too large.
        OSError
            If it is not there or not readable.
        """
        found = path.stat().st_size
        if found > self.limit:
            raise ValueError(f"it has {found:,} bytes, more than the {self.limit:,} expected")
        return self.content(path.read_bytes())


def _decompressed(data: bytes, size: int) -> bytes:
    """What a gzip archive holds, given up beyond `size` bytes."""
    gzip = zlib.decompressobj(wbits=31)
    try:
        content = gzip.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"it is not a whole gzip archive: {error}") from None
    if len(content) <= size and not gzip.eof:
        raise ValueError(f"it is cut off, after {len(content):,} of {size:,} bytes of its content")
    return content


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The files of one set, with what is known of its licence and of its traps.

    Attributes
    ----------
    name
        Of the set.
    files
        Its files.
    licence
        Under which terms it is published, as far as that is known.
    note
        What to mind when it is used.
    """

    name: str
    files: tuple[File, ...]
    licence: str
    note: str

    @property
    def digest(self) -> str:
        """SHA-256 of the lines ``<sha256>  <name>`` of all files, one checksum for the set."""
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def data_set(name: str) -> DataSet:
    """The registered set of this name.

    Parameters
    ----------
    name
        A key of ``registry.json``.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    sets = _sets()
    if name not in sets:
        raise ValueError(f"Unknown data set {name!r}; choose one of {', '.join(sets)}.")
    return sets[name]


@functools.cache
def _sets() -> dict[str, DataSet]:
    path = Path(__file__).with_name("registry.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: _set(name, **entry) for name, entry in content.items()}


def _set(
    name: str,
    *,
    folder: str,
    files: dict[str, list],
    licence: str,
    note: str,
    mirrors: tuple[str, ...] = (),
    repository: str = "",
    commit: str = "",
    path: str = "",
    compressed: bool = False,
) -> DataSet:
    """A set from its entry: each file's content length, SHA-256 and, if compressed, its length."""
    if repository:
        mirrors = (f"https://raw.githubusercontent.com/{repository}/{commit}/{path}/",)
    found = [
        File(
            name=f"{folder}/{file}",
            size=size,
            sha256=sha256,
            transfer=transfer[0] if transfer else size,
            urls=tuple(mirror + file for mirror in mirrors),
            compressed=compressed,
        )
        for file, (size, sha256, *transfer) in files.items()
    ]
    return DataSet(name, tuple(found), licence, note)

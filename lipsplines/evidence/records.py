"""One run, one record: settings, metrics, certificate, provenance, kept in a folder of files.

A record is a JSON file whose name carries the hash of its settings, with an optional safetensors
file of curves and weights beside it. Both are written to a temporary name and renamed, the
record last, so that a killed run leaves a whole record or none. A digest of the content and the
SHA-256 of the file beside it tell a record that was altered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lipsplines.evidence.results import default_results
from lipsplines.files import in_lines, in_short, refuse_constant, write_atomically

__all__ = [
    "CorruptRecordWarning",
    "Record",
    "Store",
    "identity",
]

PARTS = ("settings", "metrics", "lipschitz", "provenance")


class CorruptRecordWarning(UserWarning):
    """A record file could not be used; it is treated as missing."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What one run left.

    Attributes
    ----------
    settings
        Everything that decides the result, with ``experiment`` and ``profile`` among it.
    metrics
        Numbers, or lists with one entry for each model.
    lipschitz
        ``{"lower": ..., "upper": ...}``: certified bounds for all models of the run; empty for a
        run without a model to certify.
    provenance
        From `provenance.provenance`.
    tensors
        Name and SHA-256 of the file of curves and weights, or None.

    Examples
    --------
    >>> from lipsplines.evidence.records import Record
    >>> record = Record({"experiment": "test", "profile": "smoke"}, {"error": 0.5}, {}, {})
    >>> record.metrics["error"], record.tensors is None
    (0.5, True)
    """

    settings: dict[str, Any]
    metrics: dict[str, Any]
    lipschitz: dict[str, float]
    provenance: dict[str, Any]
    tensors: dict[str, str] | None = None


def identity(settings: Mapping[str, Any]) -> str:
    """Hash of the settings, 16 hexadecimal digits: equal settings, equal identity, at any time.

    Parameters
    ----------
    settings
        Anything that JSON can hold.

    Examples
    --------
    >>> from lipsplines.evidence.records import identity
    >>> len(identity({"width": 10})), identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})
    (16, True)
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """A folder of records, ``<root>/<experiment>/<profile>/<label>-<identity>.json``.

    Several processes may write at the same time. Reading never trusts a file: one that is cut off,
    altered or misplaced gives a `CorruptRecordWarning` and counts as missing.

    Parameters
    ----------
    root
        The folder; by default `results.default_results`.

    Examples
    --------
    >>> import tempfile
    >>> from lipsplines.evidence.records import Record, Store
    >>> settings = {"experiment": "test", "profile": "smoke", "label": "first"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     _ = store.put(Record(settings, {"error": 0.5}, {}, {}))
    ...     store.get(settings).metrics
    {'error': 0.5}
    """

    def __init__(self, root: str | os.PathLike | None = None) -> None:
        self.root = Path(root) if root is not None else default_results()

    def check_writable(self) -> None:
        """Refuse a folder in which no record can be stored, before anything is computed.

        Raises
        ------
        ValueError
            Naming the folder, the reason, and where to choose another.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()
        except OSError as error:
            raise ValueError(
                f"Records cannot be stored in {self.root} ({error.strerror}); choose a folder that "
                "can be written with --results or LIPSPLINES_RESULTS."
            ) from None

    def check_readable(self) -> None:
        """Refuse what is no folder; one that is not there yet holds no records.

        Raises
        ------
        ValueError
            Naming it and where to choose another.
        """
        try:
            usable = self.root.is_dir() or not self.root.exists()
            if self.root.is_dir():
                next(self.root.iterdir(), None)
        except OSError as error:
            raise ValueError(
                f"{self.root} cannot be read ({error.strerror}); choose a folder of records with "
                "--results or LIPSPLINES_RESULTS."
            ) from None
        if not usable:
            raise ValueError(
                f"{self.root} is no folder; choose a folder of records with --results or "
                "LIPSPLINES_RESULTS."
            )

    def path(self, settings: Mapping[str, Any]) -> Path:
        """Where the record of these settings lies, or would lie."""
        folder = self.root / settings["experiment"] / settings["profile"]
        keys = ("check", "problem", "method", "activation", "constraint", "target")
        words = [settings.get(key) for key in keys]
        label = "-".join(re.sub(r"[^a-z0-9]+", "-", str(w).lower()) for w in words if w) or "run"
        return folder / f"{label}-{identity(settings)}.json"

    def get(self, settings: Mapping[str, Any]) -> Record | None:
        """Record of these settings, or None if there is none that can be used."""
        path = self.path(settings)
        if not path.exists():
            return None
        return self._read_or_warn(path, "counts as missing and will be computed again")

    def put(self, record: Record, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
        """Write a record, and its tensors beside it, atomically."""
        if not tensors:
            return self._write(record, None)
        from safetensors.torch import save

        return self._write(
            record, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        )

    def copy(self, record: Record, source: Store) -> Path:
        """Take over a record of another store as it is, with its tensors.

        Raises
        ------
        ValueError, OSError
            If the file of tensors is not the one that the record names.
        """
        if record.tensors is None:
            return self._write(record, None)
        folder = source.path(record.settings).parent
        return self._write(record, self._tensor_bytes(folder, record.tensors))

    def strip(self, record: Record, **origin: Any) -> Record:
        """Write a record anew without its tensors, and delete their file.

        Parameters
        ----------
        record
            Of this store.
        origin
            Joins its provenance: where the tensors are now, for example.
        """
        path, provenance = self.path(record.settings), {**record.provenance, **origin}
        bare = dataclasses.replace(record, provenance=provenance, tensors=None)
        self._write(bare, None)
        if record.tensors is not None:
            (path.parent / Path(record.tensors["file"]).name).unlink(missing_ok=True)
        return bare

    def _write(self, record: Record, tensors: bytes | None) -> Path:
        path = self.path(record.settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {part: getattr(record, part) for part in PARTS}
        if tensors is not None:
            beside = path.with_suffix(".safetensors")
            write_atomically(beside, tensors)
            content["tensors"] = {
                "file": beside.name,
                "sha256": hashlib.sha256(tensors).hexdigest(),
            }
        content["digest"] = identity(content)
        write_atomically(path, (in_lines(content) + "\n").encode())
        return path

    def tensors(self, record: Record) -> dict[str, torch.Tensor]:
        """Curves and weights of a record, checked against its SHA-256; empty if it has none."""
        if record.tensors is None:
            return {}
        from safetensors.torch import load

        return load(self._tensor_bytes(self.path(record.settings).parent, record.tensors))

    def select(self, experiment: str, profile: str, **settings: Any) -> list[Record]:
        """All usable records of an experiment at a profile whose settings have the given values."""
        folder = self.root / experiment / profile
        found = []
        for path in sorted(folder.glob("*.json")):
            record = self._read_or_warn(path, "is left out")
            if record is not None and all(
                record.settings.get(key) == value for key, value in settings.items()
            ):
                found.append(record)
        return found

    def files(self) -> list[Path]:
        """All files that lie where records lie, usable or not."""
        return sorted(self.root.glob("*/*/*.json"))

    def read(self, path: Path) -> Record:
        """Record in one of the `files`.

        Raises
        ------
        ValueError
            With the reason why the record cannot be used, such as a digest that does not match.
        """
        try:
            return self._read(path)
        except KeyError as error:
            raise ValueError(f"it lacks {in_short(error)}") from None
        except (ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
            raise ValueError(in_short(error)) from None

    def _read_or_warn(self, path: Path, consequence: str) -> Record | None:
        try:
            return self.read(path)
        except ValueError as error:
            warnings.warn(
                f"{path} is not a usable record ({error}); it {consequence}.",
                CorruptRecordWarning,
                stacklevel=3,
            )
            return None

    def _read(self, path: Path) -> Record:
        content = json.loads(path.read_bytes().decode("utf-8"), parse_constant=refuse_constant)
        if not isinstance(content, dict) or not all(
            isinstance(content.get(part), dict) for part in PARTS
        ):
            raise ValueError(f"expected an object with {', '.join(PARTS)}")
        digest = content.pop("digest", None)
        if not all(math.isfinite(number) for number in _numbers(content)):
            raise ValueError("it holds a number that is not finite")
        if digest != identity(content):
            raise ValueError("its content does not match its digest")
        record = Record(**{part: content[part] for part in PARTS}, tensors=content.get("tensors"))
        if self.path(record.settings) != path:
            raise ValueError("its settings do not match its name and folder")
        if set(record.lipschitz) not in (set(), {"lower", "upper"}):
            raise ValueError("lipschitz must hold lower and upper, or nothing")
        if record.tensors is not None:
            self._tensor_bytes(path.parent, record.tensors)
        return record

    @staticmethod
    def _tensor_bytes(folder: Path, entry: Mapping[str, str]) -> bytes:
        name = Path(str(entry["file"])).name
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError(f"{name} does not match the SHA-256 in the record")
        return data


def _numbers(content: Any) -> Iterator[float]:
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from _numbers(item)
    elif isinstance(content, float):
        yield content

"""Models in files: one safetensors file, whose header holds the description of the modules."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lipsplines._version import __version__
from lipsplines.export.descriptions import build, description
from lipsplines.files import in_short, refuse_constant, write_atomically

__all__ = ["description", "load_model", "read_header", "save_model"]

FORMAT = 1
KEY = "lipsplines"  # of the JSON text among the metadata of the file
LISTED = 3  # names of tensors in a message
DTYPE_NAMES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def save_model(
    model: nn.Module, path: str | os.PathLike, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write a model to one file, whole or not at all.

    Parameters
    ----------
    model
        Built of the modules in `known_modules.KNOWN`: chains of layers, plain or constrained,
        pooling and activations. A folded model is stored with the numbers that it computes with,
        a constrained one with its parameters, so that it can be trained on.
    path
        Of the file, usually ``*.safetensors``.
    metadata
        Anything that JSON can hold, kept in the header.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    TypeError
        If the model cannot be described (`descriptions.description`), or the metadata are no
        dictionary of what JSON can hold.
    ValueError
        If a parameter is NaN or infinite.

    Examples
    --------
    >>> import tempfile
    >>> from lipsplines import OrthogonalLinear, save_model
    >>> from lipsplines.export.storage import read_header
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(OrthogonalLinear(3, 2), f"{folder}/layer.safetensors", {"seed": 0})
    ...     read_header(path)["metadata"]
    {'seed': 0}
    """
    if not isinstance(metadata, Mapping | None):
        raise TypeError(f"metadata must be a dictionary, got {type(metadata).__name__}.")
    tree = description(model)
    # Copies: the file holds each tensor by itself, whatever memory they share.
    tensors = {name: p.detach().cpu().contiguous().clone() for name, p in model.named_parameters()}
    for name, tensor in tensors.items():
        _refuse_non_finite(name, tensor)
    header = {
        "format": FORMAT,
        "version": __version__,
        "model": tree,
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "metadata": dict(metadata or {}),
    }
    try:
        header = json.loads(json.dumps(header, allow_nan=False))  # as it will be read
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be what JSON can hold ({error}).") from None
    header["sha256"] = _digest(header, tensors)
    write_atomically(Path(path), safetensors.torch.save(tensors, {KEY: json.dumps(header)}))
    return Path(path)


def load_model(path: str | os.PathLike) -> nn.Module:
    """Model of a file that `save_model` wrote, on the CPU and in evaluation mode.

    It has the same modules with the same numbers, bit for bit. Nothing in the file is run.

    Parameters
    ----------
    path
        Of the file, which need not be trusted.

    Raises
    ------
    ValueError
        If the file is cut off, altered, of another kind or of a newer format, if its description
        is not one of known modules, and if a tensor is missing, left over, of another shape or
        dtype, or not finite.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from lipsplines import OrthogonalLinear, load_model, save_model
    >>> layer, x = OrthogonalLinear(3, 2), torch.randn(5, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = load_model(save_model(layer, f"{folder}/layer.safetensors"))
    >>> torch.equal(stored(x), layer(x))
    True
    """
    with _opened(path) as file:
        header = _header(file)
        model = build(header["model"])
        frozen = header["frozen"]
        expected = dict(model.named_parameters())
        _refuse_other_names(set(expected), set(file.keys()), frozen)
        tensors = {name: _tensor(file, name, like) for name, like in expected.items()}
        if _digest(header, tensors) != header["sha256"]:
            raise ValueError("its content does not match its SHA-256: it was altered.")
    for name, tensor in tensors.items():
        place, _, key = name.rpartition(".")
        parameter = nn.Parameter(tensor, requires_grad=name not in frozen)
        setattr(model.get_submodule(place), key, parameter)
    return model.eval()


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """What a file says of its model, which is neither built nor checked.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    dict
        The ``format``, the ``version`` of the library that wrote it, the description of the
        ``model``, the names of the ``frozen`` parameters, which require no gradient, the
        ``metadata`` that `save_model` was given, and the ``sha256`` of all this and the tensors.

    Raises
    ------
    ValueError, OSError
        As `load_model`.
    """
    with _opened(path) as file:
        return _header(file)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Any]:
    """The open file; whatever is found wrong with it meanwhile is said with its name."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is cut off, altered or no safetensors file ({in_short(error)}); copy it "
            "again, or save the model again."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} holds no model that can be used: {in_short(error)}") from None


def _header(file: Any) -> dict[str, Any]:
    text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise ValueError(
            "it was not written by save_model; build the model yourself and read the tensors with "
            "safetensors.torch.load_file."
        )
    try:
        header = json.loads(text, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("its description is nested too deeply.") from None
    if not isinstance(header, dict) or type(header.get("format")) is not int:
        raise ValueError("its description is no object with a format.")
    if header["format"] != FORMAT:
        raise ValueError(
            f"it has format {header['format']}, this version of the library reads {FORMAT}; "
            "install the newest one."
        )
    kinds = {"version": str, "model": dict, "frozen": list, "sha256": str, "metadata": dict}
    for part, kind in kinds.items():
        if not isinstance(header.get(part), kind):
            raise ValueError(f"its description lacks {part}, or has it as no {kind.__name__}.")
    return header


def _refuse_other_names(expected: set[str], found: set[str], frozen: list) -> None:
    if expected != found:
        missing, left_over = sorted(expected - found), sorted(found - expected)
        raise ValueError(
            f"its tensors do not fit its description: missing {_few(missing)}, left over "
            f"{_few(left_over)}."
        )
    unknown = [name for name in frozen if not isinstance(name, str) or name not in expected]
    if unknown:
        raise ValueError(f"it calls {_few(unknown)} frozen, which are no parameters of it.")


def _few(names: list) -> str:
    """The first of some names, and how many follow."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(in_short(repr(name), 60) for name in names[:LISTED]) or 'none'}{more}"


def _tensor(file: Any, name: str, like: Tensor) -> Tensor:
    """One tensor of a file, checked; a copy, for the file may be replaced while it is in use."""
    entry = file.get_slice(name)
    shape, dtype = tuple(entry.get_shape()), entry.get_dtype()
    if shape != tuple(like.shape) or dtype != DTYPE_NAMES[like.dtype]:
        raise ValueError(
            f"{name} has shape {shape} and dtype {dtype}, its description says "
            f"{tuple(like.shape)} and {DTYPE_NAMES[like.dtype]}."
        )
    tensor = file.get_tensor(name).clone()
    _refuse_non_finite(name, tensor)
    return tensor


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors and of the rest of the header."""
    others = {part: value for part, value in header.items() if part != "sha256"}
    digest = hashlib.sha256(json.dumps(others, allow_nan=False).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse_non_finite(name: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} holds NaN or infinite values.")

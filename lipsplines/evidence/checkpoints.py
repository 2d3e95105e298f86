"""States of a training in one file, from which a run that was killed goes on.

A training consists of objects with a ``state_dict`` (modules, optimizers) and of plain values
(the step, curves). Random numbers need no state: they come from `streams.random_stream`, which
depends on a seed and the number of a step alone. The file is safetensors, written to a temporary
name and renamed; its header holds the structure as JSON, so nothing in it is ever run.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lipsplines.evidence.provenance import code_fingerprint
from lipsplines.evidence.records import CorruptRecordWarning, identity
from lipsplines.files import in_short, write_atomically

__all__ = ["Checkpoint"]

KEY = "lipsplines-checkpoint"
ERRORS = (ValueError, OSError, RuntimeError)


class HasState(Protocol):
    """A module, an optimizer, or whatever else has a state."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Checkpoint:
    """A file that holds the state of one training.

    Parameters
    ----------
    path
        Of the file, or None: then nothing is stored and nothing found.
    settings
        What decides the training. A file of other settings, or of other code, is not used.
    interval
        Least number of seconds between two files.
    clock
        Seconds, from any moment on.
    """

    def __init__(
        self,
        path: str | os.PathLike | None,
        settings: Mapping[str, Any],
        interval: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.key = identity({"settings": dict(settings), "code": code_fingerprint()})
        self.interval, self.clock = interval, clock
        self.written = clock()

    def restore(self, parts: Mapping[str, HasState]) -> dict[str, Any] | None:
        """Give the parts the state in the file; return the values stored with it.

        Returns
        -------
        dict or None
            None if there is no file that can be used. One that is cut off, altered or of another
            training is left out with a warning, and the parts stay as they are.
        """
        if self.path is None or not self.path.exists():
            return None
        before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
        try:
            state = self._read()
            for name, part in parts.items():
                part.load_state_dict(state["parts"][name])
        except (LookupError, TypeError, AttributeError, *ERRORS) as error:
            warnings.warn(
                f"{self.path} is no state of this training ({in_short(error)}); it starts anew.",
                CorruptRecordWarning,
                stacklevel=2,
            )
            for name, part in parts.items():
                part.load_state_dict(before[name])
            return None
        return state["values"]

    def save(
        self, parts: Mapping[str, HasState], values: Mapping[str, Any], now: bool = False
    ) -> bool:
        """Write the state, unless the last file is younger than the interval; say whether.

        Parameters
        ----------
        parts
            As for `restore`.
        values
            Tensors, numbers, texts, and lists and dictionaries of them.
        now
            Write in any case.
        """
        if self.path is None or not (now or self.clock() - self.written >= self.interval):
            return False
        tensors: dict[str, Tensor] = {}
        states = {name: part.state_dict() for name, part in parts.items()}
        structure = _encode({"parts": states, "values": dict(values)}, tensors)
        header = json.dumps({"key": self.key, "state": structure})
        header = json.dumps({"text": header, "sha256": _digest(header, tensors)})
        from safetensors.torch import save

        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, save(tensors, {KEY: header}))
        self.written = self.clock()
        return True

    def remove(self) -> None:
        """Delete the file, when the training is done and its result is stored."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        import safetensors

        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                envelope = json.loads((file.metadata() or {}).get(KEY, "{}"))
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise ValueError(f"it is cut off or altered: {error}") from None
        if not {"text", "sha256"} <= envelope.keys():
            raise ValueError("it is no checkpoint")
        if envelope["sha256"] != _digest(envelope["text"], tensors):
            raise ValueError("its content does not match its SHA-256")
        header = json.loads(envelope["text"])
        if header["key"] != self.key:
            raise ValueError("it belongs to other settings or other code")
        return _decode(header["state"], tensors)


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON; tensors go into `tensors` and leave their name."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        items = [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]
        return {"items": items}
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_encode(v, tensors) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"A checkpoint cannot hold a {type(value).__name__}.")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "tuple" in value:
            return tuple(_decode(v, tensors) for v in value["tuple"])
        return {_decode(k, tensors): _decode(v, tensors) for k, v in value["items"]}
    return value


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

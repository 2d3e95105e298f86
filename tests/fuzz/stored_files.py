"""Attacks on files that are read: models, records, checkpoints, claims.

Each attack prepares a good file, and gives a function from random numbers to a verdict: what was
damaged is refused in one sentence, or gives what the good file gives, bit for bit.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lipsplines import LinearSpline, OrthogonalLinear, load_model, save_model
from lipsplines.claims import entries
from lipsplines.evidence.checkpoints import Checkpoint
from lipsplines.evidence.records import CorruptRecordWarning, Record, Store, identity
from lipsplines.export import storage

from .mutations import Fault, check_words, damaged, damaged_json, joined, split

Attack = Callable[[random.Random], str]
REFUSED, HARMLESS, VALID = "refused", "harmless", "valid"


def _same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def models(folder: Path) -> Attack:
    """Files of models, damaged in their bytes, in their header, or rewritten with a new digest."""
    torch.manual_seed(0)
    net = nn.Sequential(OrthogonalLinear(3, 4), LinearSpline(4), OrthogonalLinear(4, 2))
    good = save_model(net, folder / "good.safetensors", {"seed": 0}).read_bytes()
    header, body = split(good)
    told = json.loads(header["__metadata__"][storage.KEY])
    tensors = dict(net.named_parameters())
    path = folder / "model.safetensors"

    def rewritten(draw: random.Random) -> bytes:
        """As by somebody who knows the format, and signs what is wrong."""
        content = damaged_json(told, draw)
        if isinstance(content, dict):
            content["sha256"] = storage._digest(content, tensors)
        return joined({**header, "__metadata__": {storage.KEY: json.dumps(content)}}, body)

    def attack(draw: random.Random) -> str:
        kind = draw.randrange(3)
        if kind == 0:
            data = damaged(good, draw)
        elif kind == 1:
            data = joined(damaged_json(header, draw), body)
        else:
            data = rewritten(draw)
        path.write_bytes(data)
        try:
            model = load_model(path)
        except (ValueError, OSError) as error:
            check_words(error)
            return REFUSED
        if _same(dict(model.named_parameters()), tensors) and str(model) == str(net.eval()):
            return HARMLESS
        if kind != 2:
            raise Fault("a damaged file gave another model")
        if not all(bool(p.isfinite().all()) for p in model.parameters()):
            raise Fault("a model with numbers that are not finite")
        return VALID

    return attack


def records(folder: Path) -> Attack:
    """Records and the tensors beside them; a new digest makes a record valid, not a wrong one."""
    store = Store(folder)
    settings = {"experiment": "toy", "profile": "smoke", "lr": 0.1, "seed": 0}
    tensors = {"w": torch.arange(6.0).reshape(2, 3)}
    made = Record(settings, {"error": [1.5, 2e-3]}, {"lower": 0.5, "upper": 1.0}, {"seconds": 1})
    path = store.put(made, tensors)
    beside = path.with_suffix(".safetensors")
    good, tensor_bytes = path.read_bytes(), beside.read_bytes()
    known = store.get(settings)

    def attack(draw: random.Random) -> str:
        kind = draw.randrange(3)
        path.write_bytes(damaged(good, draw) if kind == 0 else good)
        beside.write_bytes(damaged(tensor_bytes, draw) if kind == 1 else tensor_bytes)
        if kind == 2:
            content = json.loads(good)
            del content["digest"]
            content = damaged_json(content, draw)
            if isinstance(content, dict):
                content["digest"] = identity(content)
            path.write_text(json.dumps(content))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = store.get(settings)
            listed = store.select("toy", "smoke")
        for warning in caught:
            if warning.category is not CorruptRecordWarning:
                raise Fault(f"a warning of another kind: {warning.message}")
            check_words(warning.message)
        if found is None:
            return REFUSED if caught and not listed else HARMLESS
        if found == known and _same(store.tensors(found), tensors):
            return HARMLESS
        if kind != 2:
            raise Fault("a damaged record was believed")
        if found.settings != settings:
            raise Fault("a record of other settings was believed")
        return VALID

    return attack


def checkpoints(folder: Path) -> Attack:
    """States of a training: it starts anew, with its parts as they were, or goes on from there."""

    def parts() -> dict[str, Any]:
        torch.manual_seed(1)
        layer = nn.Linear(3, 2)
        return {"layer": layer, "adam": torch.optim.Adam(layer.parameters(), lr=0.1)}

    trained = parts()
    trained["layer"](torch.ones(1, 3)).sum().backward()
    trained["adam"].step()
    path = folder / "run.partial"
    file = Checkpoint(path, {"seed": 0})
    file.save(trained, {"step": 3, "curve": [1.0, 2.0]}, now=True)
    good, fresh = path.read_bytes(), parts()["layer"].state_dict()

    def attack(draw: random.Random) -> str:
        if draw.randrange(2):
            path.write_bytes(damaged(good, draw))
        else:
            header, body = split(good)
            path.write_bytes(joined(damaged_json(header, draw), body))
        mine = parts()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = file.restore(mine)
        for warning in caught:
            check_words(warning.message)
        weights = mine["layer"].state_dict()
        if values is None:
            if not _same(weights, fresh) or mine["adam"].state_dict()["state"]:
                raise Fault("a state that was refused has changed the training")
            return REFUSED
        if values != {"step": 3, "curve": [1.0, 2.0]} or not _same(
            weights, trained["layer"].state_dict()
        ):
            raise Fault("a damaged state was believed")
        return HARMLESS

    return attack


def claims(folder: Path) -> Attack:
    """The file of the claims, damaged as a text or with pieces that YAML gives a meaning."""
    good = Path(entries.__file__).with_name("claims.yml").read_bytes()
    pieces = (
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!python/object:os.system ",
        b".nan",
        b"[" * 999,
        b"\t",
        b"? ",
    )

    def attack(draw: random.Random) -> str:
        begin = draw.randrange(len(good) - 400)
        text = good if draw.randrange(2) else good[: begin + 400]
        if draw.randrange(2):
            place = draw.randrange(len(text))
            text = text[:place] + draw.choice(pieces) + text[place:]
        else:
            text = damaged(text, draw)
        try:
            found = entries.parse_claims(text.decode("utf-8", errors="replace"))
        except ValueError as error:
            check_words(error)
            return REFUSED
        return VALID if found else HARMLESS

    return attack

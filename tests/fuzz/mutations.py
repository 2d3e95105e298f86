"""Damage to bytes and to JSON, all of it from one stream of random numbers."""

from __future__ import annotations

import copy
import json
import random
import struct
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 10**30, 1e308, -0.0, "", "\x1b[2J", "../../etc", "x" * 3000),
    *([], {}, [[]], {"": None}, {"tensor": "0"}, "0.weight", "Linear", 3, 0.5),
)


class Fault(Exception):
    """What must not happen happened; the message says what."""


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The bytes after one to three mishaps of a disk, a network or a hand."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(out) + 1)
        end = min(len(out), start + draw.choice((1, 1, 8, 64, 4096)))
        kind = draw.randrange(8)
        if kind == 0 and start < len(out):
            out[start] ^= 1 << draw.randrange(8)
        elif kind == 1:
            out[start:end] = draw.randbytes(end - start)
        elif kind == 2:
            del out[start:end]
        elif kind == 3:
            del out[start:]
        elif kind == 4:
            out[start:start] = out[start:end]
        elif kind == 5:
            out[start:start] = draw.randbytes(draw.choice((1, 8, 100)))
        elif kind == 6:
            out[start:end] = bytes(end - start)
        else:
            out += draw.randbytes(draw.choice((1, 8, 100)))
    return bytes(out)


def damaged_json(content: Any, draw: random.Random) -> Any:
    """The content after one to three changes that leave it JSON."""
    content = copy.deepcopy(content)
    for _ in range(draw.randint(1, 3)):
        places = list(_places(content))
        if not places:
            return draw.choice(STRANGE)
        holder, key = draw.choice(places)
        kind = draw.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = copy.deepcopy(draw.choice(STRANGE))
        elif kind == 2:
            other, name = draw.choice(places)
            holder[key] = copy.deepcopy(other[name])
        elif kind == 3:
            deep: Any = 0
            for _ in range(draw.choice((3, 60, 400))):
                deep = [deep]
            holder[key] = deep
        elif isinstance(holder, dict):
            holder[draw.choice(("extra", "", "format", "sha256", "kind"))] = holder[key]
        else:
            holder.append(holder[key])
    return content


def _places(content: Any) -> Any:
    """Each dictionary or list with each of its keys, at any depth."""
    keys = content.keys() if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], (dict, list)) and content[key]:
            yield from _places(content[key])


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, body: bytes) -> bytes:
    """A safetensors file of a header and a body, whether they fit or not."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def check_words(error: BaseException | str, most: int = 700) -> None:
    """Refuse an error that a terminal cannot show, or that nobody would read.

    Raises
    ------
    Fault
        With the beginning of the error.
    """
    told = str(error)
    if len(told) > most or not told.replace("\n", " ").isprintable():
        raise Fault(f"a message of {len(told)} characters: {told[:200]!r}")

"""Diagrams of networks and iterations, as HTML that wraps on a phone and prints as it is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from torch import nn
from torch.nn.modules.conv import _ConvNd as _Conv
from torch.nn.utils.parametrize import type_before_parametrizations

__all__ = ["Diagram", "iteration", "network"]


class Diagram:
    """Boxes from left to right, with arrows between them.

    Parameters
    ----------
    boxes
        Kind (``"signal"``, ``"linear"`` or ``"activation"``, which sets the colour), name, and what
        is said below it.
    back
        What leads from the last box to the first again; nothing does if it is empty.
    """

    def __init__(self, boxes: Sequence[tuple[str, str, str]], back: str = "") -> None:
        self.boxes, self.back = list(boxes), back

    def __repr__(self) -> str:
        return " → ".join(f"{name} ({more})" if more else name for _, name, more in self.boxes)

    def _repr_html_(self) -> str:
        drawn = "".join(
            f'<span class="{kind}"><b>{escape(name)}</b><small>{escape(more)}</small></span>'
            for kind, name, more in self.boxes
        )
        back = f'<span class="back">↺ {escape(self.back)}</span>' if self.back else ""
        told = escape(f"{self!r}" + (f"; {self.back}" if self.back else ""))
        return f'<div class="diagram" role="img" aria-label="{told}">{drawn}{back}</div>'


def network(model: nn.Sequential, first: str, last: str) -> Diagram:
    """Diagram of a network, whose layers follow one another.

    Layers that repeat, such as the middle of a deep network, are drawn once with their number.

    Parameters
    ----------
    model
        Its children are the boxes.
    first, last
        Names of the input and of the output.

    Examples
    --------
    >>> from torch import nn
    >>> network(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)), "point", "value")
    point → Linear (2 → 8) → ReLU → Linear (8 → 1) → value
    """
    layers = [_box(layer) for layer in model.children()]
    boxes: list[tuple[str, str, str]] = []
    start = 0
    while start < len(layers):
        length, times = _repetition(layers[start:])
        block = layers[start : start + length]
        if times > 1:
            names = " + ".join(name for _, name, _ in block)
            details = ", ".join(dict.fromkeys(more for _, _, more in block if more))
            block = [(block[0][0], f"{names}, {times} times", details)]
        boxes += block
        start += length * times
    return Diagram([("signal", first, ""), *boxes, ("signal", last, "")])


def iteration(steps: Sequence[tuple[str, str]], first: str, back: str) -> Diagram:
    """Diagram of an iteration.

    Parameters
    ----------
    steps
        Name and formula of each step; the colours alternate.
    first
        What begins.
    back
        What happens after the last step.
    """
    kinds = ("linear", "activation")
    boxes = [(kinds[k % 2], name, formula) for k, (name, formula) in enumerate(steps)]
    return Diagram([("signal", first, ""), *boxes], back)


def _box(layer: nn.Module) -> tuple[str, str, str]:
    name = type_before_parametrizations(layer).__name__
    if hasattr(layer, "in_features"):
        return "linear", name, f"{layer.in_features} → {layer.out_features}"
    if isinstance(layer, _Conv):
        size = "×".join(map(str, layer.kernel_size))
        return "linear", name, f"{layer.in_channels} → {layer.out_channels}, {size}"
    return "activation", name, ""


def _repetition(layers: Sequence[tuple[str, str, str]]) -> tuple[int, int]:
    """Length and number of the equal blocks of two layers or more that the layers begin with."""
    for length in range(2, len(layers) // 2 + 1):
        block, times = layers[:length], 1
        while layers[times * length : (times + 1) * length] == block:
            times += 1
        if times > 1:
            return length, times
    return 1, 1

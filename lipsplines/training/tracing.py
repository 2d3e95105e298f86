"""A function of tensors as one flat list of operations, without the machinery that made it.

Transforms (``torch.func``), autograd and modules cost several microseconds for each operation that
they record or look up; for small tensors this is most of the time. A traced program runs what they
came to, one call of torch after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["trace"]

_aten = torch.ops.aten

# Operations with a binding in Python of the same name and arguments: 1 to 2 us faster to call.
_WITH_BINDINGS = """
    abs.default add.Tensor add_.Tensor amax.default baddbmm.default baddbmm.out bmm.default bmm.out
    clamp.default clamp_.default clamp_min.default constant_pad_nd.default cos.default
    cumsum.default div.Scalar div.Tensor eq.Tensor exp.default expand.default ge.Scalar gt.Scalar
    hardshrink.default le.Scalar log.default lt.Scalar maximum.default mean.dim minimum.default
    mul.Scalar mul.Tensor ne.Tensor neg.default new_empty.default new_zeros.default
    ones_like.default permute.default pow.Tensor_Scalar relu.default scalar_tensor.default
    select.int sgn.default sin.default sqrt.default squeeze.dim squeeze.dims stack.default
    sub.Tensor sum.default sum.dim_IntList transpose.int unbind.int unsqueeze.default view.default
    where.self
"""


def _bindings() -> dict[Any, Callable]:
    found: dict[Any, Callable] = {
        _aten._unsafe_view.default: torch.Tensor.view,
        _aten.linalg_vector_norm.default: torch.linalg.vector_norm,
    }
    for entry in _WITH_BINDINGS.split():
        name, overload = entry.split(".")
        binding = getattr(torch, name, None) or getattr(torch.Tensor, name)
        found[getattr(getattr(_aten, name), overload)] = binding
    return found


_BINDINGS = _bindings()
_SAME = {_aten.alias.default, _aten.detach.default}
_RESHAPED = {_aten._unsafe_view.default, _aten.expand.default, _aten.view.default}


def trace(
    function: Callable[..., Sequence[Tensor | None]], *tensors: Tensor
) -> Callable[..., Sequence[Tensor | None]]:
    """The operations that ``function(*tensors)`` performs, as a program of their own.

    The function may call autograd and the transforms of ``torch.func``: they are run once, here,
    and leave their operations behind. What it decides in Python is decided once for all.

    Parameters
    ----------
    function
        Maps tensors to a sequence of tensors or None.
    tensors
        Arguments of the shapes and dtypes for which the program is made.

    Returns
    -------
    Callable
        The program, to be called with such tensors; it records no gradients. It is compared with
        the function once, on the given tensors: if any number differs, because a random one enters
        the result, say, the function itself is returned.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import

    module = make_fx(function)(*tensors)
    simplify(module.graph)
    module.recompile()

    def program(*tensors: Tensor) -> Sequence[Tensor | None]:
        with torch.inference_mode():
            return module(*tensors)

    pairs = zip(program(*tensors), function(*tensors), strict=True)
    same = (a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)
    return program if all(same) else function


def simplify(graph: fx.Graph) -> None:
    """Leave out what changes nothing, and call the rest by its fastest name."""
    for node in list(graph.nodes):
        if node.target in _SAME or (node.target in _RESHAPED and _keeps_shape(node)):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()  # knows by their own names which operations write
    for node in graph.nodes:
        node.target = _BINDINGS.get(node.target, node.target)


def _keeps_shape(node: fx.Node) -> bool:
    source = node.args[0]
    return isinstance(source, fx.Node) and node.meta["val"].shape == source.meta["val"].shape

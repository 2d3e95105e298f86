"""A function of tensors as one flat list of operations, without the machinery that made it.

Transforms (``torch.func``), autograd and modules cost several microseconds for each operation that
they record or look up; for small tensors this is most of the time. A traced program runs what they
came to, one call of torch after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = ["trace"]

_aten = torch.ops.aten

# The same operations by the bindings of Python, which parse their arguments 1 to 2 us faster.
_BINDINGS: dict[Callable, Callable] = {
    _aten._unsafe_view.default: torch.Tensor.view,
    _aten.abs.default: torch.abs,
    _aten.add.Tensor: torch.add,
    _aten.amax.default: torch.amax,
    _aten.baddbmm.default: torch.baddbmm,
    _aten.baddbmm.out: torch.baddbmm,
    _aten.bmm.default: torch.bmm,
    _aten.bmm.out: torch.bmm,
    _aten.clamp.default: torch.clamp,
    _aten.clamp_min.default: torch.clamp_min,
    _aten.cumsum.default: torch.cumsum,
    _aten.div.Scalar: torch.div,
    _aten.div.Tensor: torch.div,
    _aten.eq.Tensor: torch.eq,
    _aten.exp.default: torch.exp,
    _aten.expand.default: torch.Tensor.expand,
    _aten.gt.Scalar: torch.gt,
    _aten.log.default: torch.log,
    _aten.mean.dim: torch.mean,
    _aten.mul.Scalar: torch.mul,
    _aten.mul.Tensor: torch.mul,
    _aten.neg.default: torch.neg,
    _aten.permute.default: torch.permute,
    _aten.relu.default: torch.relu,
    _aten.select.int: torch.select,
    _aten.sqrt.default: torch.sqrt,
    _aten.squeeze.dim: torch.squeeze,
    _aten.stack.default: torch.stack,
    _aten.sub.Tensor: torch.sub,
    _aten.sum.dim_IntList: torch.sum,
    _aten.transpose.int: torch.transpose,
    _aten.unbind.int: torch.unbind,
    _aten.unsqueeze.default: torch.unsqueeze,
    _aten.view.default: torch.Tensor.view,
    _aten.where.self: torch.where,
}
_SAME = {_aten.alias.default, _aten.detach.default}
_RESHAPED = {_aten._unsafe_view.default, _aten.expand.default, _aten.view.default}


def trace(
    function: Callable[..., Sequence[Tensor | None]], *tensors: Tensor
) -> Callable[..., Sequence[Tensor | None]]:
    """The operations that ``function(*tensors)`` performs, as a program of their own.

    The function may call autograd and the transforms of ``torch.func``: they are run once, here,
    and leave their operations behind. What it decides in Python is decided once for all, and
    tensors that are not among its arguments are kept as they are.

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
    module = make_fx(function)(*tensors)
    _simplify(module.graph)
    module.recompile()

    def program(*tensors: Tensor) -> Sequence[Tensor | None]:
        with torch.inference_mode():
            return module(*tensors)

    pairs = zip(program(*tensors), function(*tensors), strict=True)
    same = (a is b is None or torch.equal(a, b) for a, b in pairs)
    return program if all(same) else function


def _simplify(graph: fx.Graph) -> None:
    """Leave out what changes nothing, and call the rest by its fastest name."""
    for node in list(graph.nodes):
        if node.target in _SAME or (node.target in _RESHAPED and _keeps_shape(node)):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()  # knows by their own names which operations write
    for node in graph.nodes:
        node.target = _BINDINGS.get(node.target, node.target)


def _keeps_shape(node: fx.Node) -> bool:
    return node.meta["val"].shape == node.args[0].meta["val"].shape

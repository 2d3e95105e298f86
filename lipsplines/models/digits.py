"""Networks for images of digits: critics, a generator, classifiers.

The critics and `ConvClassifier` are 1-Lipschitz; the generator and `Classifier` are plain networks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lipsplines.models.mlp import make_activation
from lipsplines.nn.convolution import OrthogonalConv2d
from lipsplines.nn.linear import OrthogonalLinear

__all__ = ["SIDE", "Classifier", "ConvClassifier", "ConvCritic", "Generator", "initialize"]

#: Pixels of an image, each way.
SIDE = 28


class Generator(nn.Sequential):
    """From latent vectors to images: two linear layers, two transposed convolutions.

    The type of Chen et al. (2016) with the sizes of Ducotterd et al. (2024), Section 5.3:
    62-1024-6272, then 128, 64 and 1 channels, batch normalization and ReLU between the layers, a
    hyperbolic tangent at the end.

    Parameters
    ----------
    latent
        Number of latent coordinates; inputs of shape ``(N, latent)``, uniform in [-1, 1].
    hidden
        Width of the hidden layer.
    channels
        Channels of the 7 x 7 and of the 14 x 14 images. Outputs are ``(N, 1, 28, 28)`` in (-1, 1).
    """

    def __init__(
        self, latent: int = 62, hidden: int = 1024, channels: tuple[int, int] = (128, 64)
    ) -> None:
        first, second = channels
        side = SIDE // 4
        super().__init__(
            nn.Linear(latent, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, first * side**2),
            nn.BatchNorm1d(first * side**2),
            nn.ReLU(),
            nn.Unflatten(1, (first, side, side)),
            nn.ConvTranspose2d(first, second, 4, stride=2, padding=1),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.ConvTranspose2d(second, 1, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.latent = latent

    def draw(self, count: int, stream: torch.Generator) -> Tensor:
        """Latent vectors, uniform in [-1, 1], shape ``(count, latent)``, on the model's device."""
        like = next(self.parameters())
        uniform = torch.rand(count, self.latent, generator=stream, dtype=like.dtype)
        return (2 * uniform - 1).to(like.device)

    @torch.no_grad()
    def sample(self, count: int, stream: torch.Generator, batch: int = 500) -> Tensor:
        """Images of a trained generator, which keeps its state: shape ``(count, 1, 28, 28)``.

        Batch normalization uses its averages, so that each image depends on its latent vector
        alone.
        """
        training = self.training
        self.eval()
        try:
            latents = self.draw(count, stream)
            return torch.cat([self(part) for part in latents.split(batch)])
        finally:
            self.train(training)


class ConvCritic(nn.Sequential):
    """1-Lipschitz critic for images: two strided convolutions, two linear layers.

    Sizes of Ducotterd et al. (2024), Section 5.3: 4 x 4 kernels of stride 2 with 1, 64 and 128
    channels, then 6272-1024-1. Each convolution is an `OrthogonalConv2d` with circular padding, so
    it keeps norms if it has at least four channels out for each one in, and each linear layer has
    orthonormal rows or columns.

    Parameters
    ----------
    activation, activation_options
        For `mlp.make_activation`.
    channels, hidden
        Channels of the 14 x 14 and of the 7 x 7 images, and the width of the hidden layer.
    convolution
        Class of the convolutions, with the arguments of ``nn.Conv2d``.
    method
        Of the `OrthogonalLinear` layers.
    """

    def __init__(
        self,
        activation: str,
        activation_options: dict | None = None,
        channels: tuple[int, int] = (64, 128),
        hidden: int = 1024,
        convolution: type[nn.Conv2d] = OrthogonalConv2d,
        method: str | None = None,
    ) -> None:
        first, second = channels
        options = activation_options or {}
        strided: dict[str, Any] = {"stride": 2, "padding": 1, "padding_mode": "circular"}
        super().__init__(
            convolution(1, first, 4, **strided),
            make_activation(activation, first, **options),
            convolution(first, second, 4, **strided),
            make_activation(activation, second, **options),
            nn.Flatten(),
            OrthogonalLinear(second * (SIDE // 4) ** 2, hidden, method=method),
            make_activation(activation, hidden, **options),
            OrthogonalLinear(hidden, 1, method=method),
        )

    folded_class = nn.Sequential


class ConvClassifier(nn.Sequential):
    """1-Lipschitz classifier of images: two strided convolutions and one linear layer.

    The layers are those of `ConvCritic`, without its hidden layer. Outputs are ``(N, 10)``.

    Parameters
    ----------
    activation, activation_options
        For `mlp.make_activation`.
    channels
        Channels of the 14 x 14 and of the 7 x 7 images.
    """

    folded_class = nn.Sequential

    def __init__(
        self,
        activation: str,
        activation_options: dict | None = None,
        channels: tuple[int, int] = (16, 64),
    ) -> None:
        first, second = channels
        options = activation_options or {}
        strided: dict[str, Any] = {"stride": 2, "padding": 1, "padding_mode": "circular"}
        super().__init__(
            OrthogonalConv2d(1, first, 4, **strided),
            make_activation(activation, first, **options),
            OrthogonalConv2d(first, second, 4, **strided),
            make_activation(activation, second, **options),
            nn.Flatten(),
            OrthogonalLinear(second * (SIDE // 4) ** 2, 10),
        )


class Classifier(nn.Sequential):
    """Small convolutional classifier of digits, whose features give the scores of generators.

    Parameters
    ----------
    channels
        Of the 28 x 28 and of the 14 x 14 images.
    features
        Number of features, the inputs of the last layer. Images are ``(N, 1, 28, 28)`` in [0, 1].
    """

    def __init__(self, channels: tuple[int, int] = (16, 32), features: int = 64) -> None:
        first, second = channels
        super().__init__(
            nn.Conv2d(1, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (SIDE // 4) ** 2, features),
            nn.ReLU(),
            nn.Linear(features, 10),
        )

    @torch.no_grad()
    def describe(self, images: Tensor, batch: int = 500) -> tuple[Tensor, Tensor]:
        """Features ``(N, features)`` and class probabilities ``(N, 10)`` of images."""
        *layers, last = self
        features = torch.cat([nn.Sequential(*layers)(part) for part in images.split(batch)])
        return features, last(features).softmax(-1)


def initialize(model: nn.Module, deviation: float = 0.02) -> None:
    """Start of a Wasserstein GAN: weights normal with this deviation, biases zero.

    (Ducotterd et al. 2024, Section 5.3; Radford et al. 2016.) Layers with a kernel that is a
    function of other parameters (`OrthogonalConv2d`) keep their own random start.

    Parameters
    ----------
    model
        Changed in place.
    deviation
        Standard deviation of the weights.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                original = getattr(module, "parametrizations", None)
                if original is None:
                    module.weight.normal_(0.0, deviation)
                elif hasattr(original.weight, "original"):
                    original.weight.original.normal_(0.0, deviation)
                if module.bias is not None:
                    module.bias.zero_()

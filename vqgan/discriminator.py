"""DISCRIMINATORS: images -> a grid of logits, real above zero."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class PatchGAN(nn.Module):
    """Judges overlapping patches (pix2pix, arXiv:1611.07004), as VQGAN does; group norm instead of batch norm.

    Group norm keeps every image to itself, so the result does not depend on the number of processes.
    """

    def __init__(self, channels: int, *, width: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for n in range(1, num_layers + 1):
            before, after = width * min(2 ** (n - 1), 8), width * min(2**n, 8)
            stride = 2 if n < num_layers else 1
            layers += [nn.Conv2d(before, after, 4, stride=stride, padding=1), nn.GroupNorm(8, after), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(width * min(2**num_layers, 8), 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) in [-1, 1] -> logits: (batch, 1, h, w)."""
        return self.layers(images)


DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {"patchgan": PatchGAN}

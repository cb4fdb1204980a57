"""DISCRIMINATORS: images -> a grid of logits, real above zero; Judge keeps one in bounds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.normalization import GroupNorm
from vqgan.registry import Repeats, Size


class PatchGAN(nn.Module):
    """Judges overlapping patches (pix2pix, arXiv:1611.07004), as VQGAN does; group norm instead of
    batch norm.

    Group norm keeps every image to itself, however many processes there are.
    """

    def __init__(self, channels: int, *, width: Size = 64, num_layers: Repeats = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for n in range(1, num_layers + 1):
            before, after = width * min(2 ** (n - 1), 8), width * min(2**n, 8)
            stride = 2 if n < num_layers else 1
            layers += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1),
                GroupNorm(8, after),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(width * min(2**num_layers, 8), 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) in [-1, 1] -> logits: (batch, 1, h, w)."""
        return self.layers(images)


class _Down(nn.Module):
    """Half the size: two convolutions after a blur, and a 1x1 on the skip."""

    blur: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, before, 3, padding=1)
        self.conv2 = nn.Conv2d(before, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1, bias=False)
        kernel = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("blur", (kernel[:, None] * kernel / 64)[None, None], persistent=False)

    def halved(self, x: Tensor) -> Tensor:
        """Blurred, then every other pixel in both directions (Zhang 2019, arXiv:1904.11486)."""
        kernel = self.blur.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        return F.conv2d(
            F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=x.shape[1]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, height, width) -> (batch, after, height / 2, width / 2)."""
        hidden = F.leaky_relu(self.conv2(self.halved(F.leaky_relu(self.conv1(x), 0.2))), 0.2)
        return (hidden + self.skip(self.halved(x))) / 2**0.5


class StyleGAN(nn.Module):
    """A residual discriminator with blurred downsampling (StyleGAN2, arXiv:1912.04958), as MAGVIT
    and ViT-VQGAN use.

    One logit an image; without the minibatch deviation, which would make an image's logit depend on
    its batch. Any size from 2^num_layers on: the last features are averaged over the image.
    """

    def __init__(self, channels: int, *, width: Size = 32, num_layers: Repeats = 3) -> None:
        super().__init__()
        widths = [width * min(2**n, 8) for n in range(num_layers + 1)]
        self.from_pixels = nn.Conv2d(channels, width, 1)
        self.layers = nn.Sequential(*(_Down(a, b) for a, b in pairwise(widths)))
        self.last = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.to_logit = nn.Linear(widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) in [-1, 1] -> logits: (batch, 1, 1, 1)."""
        hidden = self.layers(F.leaky_relu(self.from_pixels(images), 0.2))
        hidden = F.leaky_relu(self.last(hidden), 0.2).mean((2, 3))
        return self.to_logit(hidden)[..., None, None]


DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {"patchgan": PatchGAN, "stylegan": StyleGAN}


class Judged(NamedTuple):
    """What a Judge says of a batch."""

    real: Tensor  # logits of real images
    fake: Tensor  # logits of as many reconstructions
    gradient_penalty: Tensor  # scalar; 0 unless asked for


class Judge(nn.Module):
    """A discriminator, the moving averages of its logits, and the gradient penalty on real images.

    The averages (LeCam, arXiv:2104.03310) are buffers, so that a checkpoint holds them.
    """

    mean_real: Tensor
    mean_fake: Tensor

    def __init__(self, net: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        self.net, self.decay = net, decay
        self.register_buffer("mean_real", torch.zeros(()))
        self.register_buffer("mean_fake", torch.zeros(()))

    def forward(self, real: Tensor, fake: Tensor, raw: Tensor | None = None) -> Judged:
        """real, fake: (batch, channels, height, width). raw: also E |d logits / d raw|^2 (R1,
        arXiv:1801.04406).

        raw: the images that `real` was made from, with a graph between them where they are
        augmented. The penalty is made in here, so that gradients are exchanged among processes as
        those of any loss; and in float32.
        """
        if raw is None:
            of_real, of_fake = self.net(torch.cat((real, fake))).chunk(2)
            return Judged(of_real, of_fake, real.new_zeros(()))
        with torch.autocast(real.device.type, enabled=False):
            logits = self.net(real.float())
            (slope,) = torch.autograd.grad(logits.sum(), raw, create_graph=True)
        return Judged(logits, self.net(fake), slope.square().flatten(1).sum(1).mean())

    @torch.no_grad()
    def remember(self, real: Tensor, fake: Tensor, finite: Tensor | None = None) -> None:
        """Move the averages by the mean logits of a step, of all processes: two scalars.

        finite: bool (), without which nothing changes.
        """
        for mean, found in ((self.mean_real, real), (self.mean_fake, fake)):
            if finite is not None:
                found = torch.where(finite, found, mean)
            mean.lerp_(found, 1 - self.decay)

    def lecam(self, judged: Judged) -> Tensor:
        """E relu(D(real) - mean D(fake))^2 + E relu(mean D(real) - D(fake))^2: keeps them near."""
        return (
            F.relu(judged.real - self.mean_fake).square().mean()
            + F.relu(self.mean_real - judged.fake).square().mean()
        )

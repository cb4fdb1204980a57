"""What a tokenizer is trained on: a pixel loss, and an adversarial loss with its adaptive weight.

The third, a perceptual loss, is in vqgan/perceptual.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(images, targets)


def l2(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(images, targets)


def l1_l2(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute plus mean squared error (ViT-VQGAN, arXiv:2110.04627)."""
    return F.l1_loss(images, targets) + F.mse_loss(images, targets)


PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "l2": l2, "l1_l2": l1_l2}


class Adversarial(NamedTuple):
    """The two sides of a GAN loss on logits."""

    generator: Callable[[Tensor], Tensor]  # logits of fakes -> scalar
    discriminator: Callable[[Tensor, Tensor], Tensor]  # logits of reals and of fakes -> scalar


ADVERSARIAL = {
    "hinge": Adversarial(
        generator=lambda fake: -fake.mean(),
        discriminator=lambda real, fake: 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean()),
    ),
    "non_saturating": Adversarial(
        generator=lambda fake: F.softplus(-fake).mean(),
        discriminator=lambda real, fake: 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean()),
    ),
}


def adaptive_weight(
    losses: Iterable[tuple[Tensor, Tensor]],
    last_weight: Tensor,
    mean_over_processes: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> Tensor:
    """lambda = |d L_rec / dW| / (|d L_gan / dW| + 1e-4) in [0, 1e4] (arXiv:2012.09841, eq. 7).

    losses: (L_rec, L_gan) of each of the equal parts of a batch. last_weight: W, of the decoder's
    last convolution. The gradients are those of the whole batch: with several processes, pass what
    averages them. Keeps the graphs for the backward pass to come.
    """
    rec, gan = torch.zeros_like(last_weight), torch.zeros_like(last_weight)
    number = 0
    for reconstruction, adversarial in losses:
        rec += torch.autograd.grad(reconstruction, last_weight, retain_graph=True)[0]
        gan += torch.autograd.grad(adversarial, last_weight, retain_graph=True)[0]
        number += 1
    rec, gan = mean_over_processes(rec / number), mean_over_processes(gan / number)
    return (rec.norm() / (gan.norm() + 1e-4)).clamp(0, 1e4).detach()

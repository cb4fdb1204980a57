"""Quantizers without a codebook: the signs of a few numbers, kept in use by an entropy loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from vqgan.quantizers.quantized import NumCodes, Quantized, check_range, is_distributed
from vqgan.registry import Weight

GROUP_BITS = 10
"""The most bits whose entropy over all cells is taken exactly; longer codes are groups of them."""


class _Signs(nn.Module):
    """The signs of log2(K) numbers: a code is a corner of a cube, the first bit the highest."""

    remedy = "take fewer codes, or a larger entropy_weight"
    bits: Tensor
    scale: float
    of_step: list[Tensor] | None = None  # the means of a whole step, while its parts are run

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        entropy_weight: float,
        commitment: float,
        diversity: float,
    ) -> None:
        super().__init__()
        self.entropy_weight, self.diversity, self.commitment = entropy_weight, diversity, commitment
        if codebook_size < 2 or codebook_size & (codebook_size - 1):
            name = type(self).__name__.lower()
            raise ValueError(
                f"{name} needs a codebook_size that is a power of two, not {codebook_size}"
            )
        self.codebook_size, self.num_bits = codebook_size, codebook_size.bit_length() - 1
        self.code_levels = (2,) * self.num_bits
        self.project_in = nn.Linear(dim, self.num_bits)
        self.project_out = nn.Linear(self.num_bits, dim)
        self.register_buffer("bits", 2 ** torch.arange(self.num_bits - 1, -1, -1), persistent=False)

    def _numbers(self, latents: Tensor) -> Tensor:
        """(batch, dim, height, width) -> what the signs are of: (batch, height, width, bits)."""
        found: Tensor = self.project_in(latents.float().movedim(1, -1))
        return found

    def loss_of(self, numbers: Tensor, corners: Tensor) -> Tensor:
        """Of one training batch."""
        raise NotImplementedError

    def _means(self, numbers: Tensor) -> list[Tensor]:
        """Mean probabilities of this call's cells, for the entropy of all cells' codes."""
        raise NotImplementedError

    @torch.no_grad()
    def expect(self, parts: Iterable[Tensor]) -> None:
        """Before a step in several calls: all their latents, whose entropy each call then takes.

        The last of those calls ends it (`accumulate=False`).
        """
        with torch.autocast(self.bits.device.type, enabled=False):
            found = [
                [_over_processes(mean) for mean in self._means(self._numbers(part))]
                for part in parts
            ]
        self.of_step = [torch.stack(means).mean(0) for means in zip(*found, strict=True)]

    def forget(self) -> None:
        """The parts of a step that is given up."""
        self.of_step = None

    def _whole(self, numbers: Tensor) -> list[Tensor]:
        """The step's means over all processes, with the gradient of this call's share."""
        means = [_over_processes(mean) for mean in self._means(numbers)]
        if self.of_step is None:
            return means
        return [
            whole + mean - mean.detach() for whole, mean in zip(self.of_step, means, strict=True)
        ]

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized; the loss may be negative.

        The entropy of all cells' codes is that of this call's cells on all processes; or, in a step
        of several calls (`accumulate`: more are to come), of all that `expect` was told.
        """
        with torch.autocast(latents.device.type, enabled=False):
            numbers = self._numbers(latents)
            codes = ((numbers > 0) * self.bits).sum(-1)
            corners = self.corners(codes)
            out = self.project_out(numbers + (corners - numbers).detach()).movedim(-1, 1)
            loss = self.loss_of(numbers, corners) if self.training else numbers.new_zeros(())
            if self.training and not accumulate:
                self.of_step = None
        return Quantized(out, codes, loss)

    def corners(self, codes: Tensor) -> Tensor:
        """(...) -> (..., bits): the corner of the cube."""
        signs = ((codes[..., None] & self.bits) != 0).float() * 2 - 1
        return signs * self.scale

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        check_range(codes, self.codebook_size)
        return self.project_out(self.corners(codes)).movedim(-1, 1)


def _bit_entropy(logits: Tensor) -> Tensor:
    """Of coins of probability sigmoid(logits), in nats; its gradient is always finite."""
    return F.softplus(logits) - logits * torch.sigmoid(logits)


def _entropy_terms(p: Tensor) -> Tensor:
    """-p log p, with a finite gradient at 0."""
    return -p * p.clamp_min(1e-5).log()


class _Sum(torch.autograd.Function):
    """Over all processes, with its gradient; what torch had for this is deprecated."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(value: Tensor) -> Tensor:
    found = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(found)
    return found


def _over_processes(mean: Tensor) -> Tensor:
    """The mean over all processes, with its gradient."""
    return _Sum.apply(mean) / dist.get_world_size() if is_distributed() else mean


class LFQ(_Signs):
    """The signs of log2(K) numbers, with an entropy loss (MAGVIT-v2, arXiv:2310.05737, eq. 5).

    Given a cell the bits are independent: p(bit is one) = sigmoid(4 z / temperature), which is the
    softmax of minus the squared distances to all codes. So its entropy is a sum over bits. That of
    all cells' codes is taken over groups of GROUP_BITS bits (exactly, where there is one group; as
    in Open-MAGVIT2, arXiv:2409.04410, else): nothing of size cells x codebook_size is made beyond
    2^10 codes.
    """

    scale = 1.0

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: NumCodes = 1024,
        entropy_weight: Weight = 0.02,
        commitment: Weight = 0.25,
        diversity: Weight = 1.0,
        temperature: Annotated[float, Gt(0)] = 0.01,
    ) -> None:
        super().__init__(dim, codebook_size, entropy_weight, commitment, diversity)
        self.temperature = temperature

    def loss_of(self, numbers: Tensor, corners: Tensor) -> Tensor:
        """Commitment, and the entropy of a cell's code less that of all cells' codes, in nats."""
        of_cells = _bit_entropy(4 * numbers / self.temperature).sum(-1).mean()
        of_all = torch.stack([_entropy_terms(mean).sum() for mean in self._whole(numbers)]).sum()
        entropy = of_cells - self.diversity * of_all
        return self.commitment * (numbers - corners).square().mean() + self.entropy_weight * entropy

    def _means(self, numbers: Tensor) -> list[Tensor]:
        """Of each group of bits, the probabilities of its codes: (2^bits,)."""
        found = []
        for group in numbers.flatten(0, -2).tensor_split(-(-self.num_bits // GROUP_BITS), dim=1):
            number = torch.arange(2 ** group.shape[1], device=group.device)
            corners_of_group = (
                (number[:, None] & self.bits[-group.shape[1] :]) != 0
            ).float() * 2 - 1
            found.append((2 * group @ corners_of_group.T / self.temperature).softmax(-1).mean(0))
        return found


class BSQ(_Signs):
    """The signs of log2(K) coordinates of a unit vector (binary spherical quantization,
    arXiv:2406.07548).

    The bits are independent given the unit vector, so that its entropy loss (eq. 10 to 13) is a sum
    over bits: nothing of size codebook_size is ever made, and codebooks of 2^18 cost as much as
    small ones. inverse_temperature: of the softmax of inner products with all codes; 2 is the
    softmax of minus the squared distances, as the authors' code has.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: NumCodes = 1024,
        entropy_weight: Weight = 0.1,
        diversity: Weight = 1.0,
        commitment: Weight = 0.25,
        inverse_temperature: Annotated[float, Gt(0)] = 2.0,
    ) -> None:
        super().__init__(dim, codebook_size, entropy_weight, commitment, diversity)
        self.inverse_temperature = inverse_temperature
        self.scale = self.num_bits**-0.5

    def _numbers(self, latents: Tensor) -> Tensor:
        """On the unit sphere."""
        return F.normalize(super()._numbers(latents), dim=-1)

    def loss_of(self, numbers: Tensor, corners: Tensor) -> Tensor:
        """Commitment, and the entropy of a cell's bits less that of all cells', in nats."""
        [mean] = self._whole(numbers)
        of_all = (_entropy_terms(mean) + _entropy_terms(1 - mean)).sum()
        entropy = _bit_entropy(self._logits(numbers)).sum(-1).mean() - self.diversity * of_all
        return (
            self.commitment * (numbers - corners).square().sum(-1).mean()
            + self.entropy_weight * entropy
        )

    def _logits(self, numbers: Tensor) -> Tensor:
        """That a bit is one."""
        return 2 * self.inverse_temperature * self.scale * numbers

    def _means(self, numbers: Tensor) -> list[Tensor]:
        """The probability of each bit: (bits,)."""
        return [torch.sigmoid(self._logits(numbers)).flatten(0, -2).mean(0)]

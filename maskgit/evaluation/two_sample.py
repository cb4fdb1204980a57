"""The classifier two-sample test (Lopez-Paz & Oquab, arXiv:1610.06545): can a net tell them apart?

A small net learns to tell images of two sides, as many of either; its AUC on images that it has not
seen is the number: .5 where nothing tells them apart, 1 where each image betrays its side.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.data.pixels import to_float
from maskgit.randomness import generator, mixed_seed

MOST = 2000
"""Images of either side: a number of other counts does not compare with it."""
LEAST = 40
"""Images of either side that a net can begin to learn from."""
STEPS, LOOK_EVERY, PATIENCE = 500, 50, 3
"""The budget of the training; it ends early when so many looks in a row found nothing better."""
BATCH = 64
"""Images of a step, half of them of either side."""
LEARNING_RATE = 1e-3
TRAINED, WATCHED = 0.4, 0.5
"""Of either side: the net learns from the first 40 %, stops by the next tenth, is tested on the
other half."""


class Scores(NamedTuple):
    """What the net says of the images that it has not seen: higher where it takes one for fake."""

    real: Tensor  # (n,) float32
    fake: Tensor  # (n,) float32


class Discriminator(nn.Module):
    """3x3 convolutions, three at least, that halve the sides until four are left, and their mean.

    About 93,000 parameters up to 32 pixels, 148,000 more for each time the side doubles. No
    normalisation: brightness and contrast are things to be seen.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, after = channels, 32
        while side > 4 or len(layers) < 6:
            stride = 2 if side > 4 else 1
            conv = nn.Conv2d(before, after, 3, stride=stride, padding=1)
            nn.init.kaiming_normal_(conv.weight, a=0.2)
            layers += [conv, nn.LeakyReLU(0.2)]
            before, after, side = after, min(2 * after, 128), math.ceil(side / stride)
        self.layers = nn.Sequential(*layers)
        self.to_score = nn.Linear(before, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) -> scores: (batch,)."""
        return self.to_score(self.layers(images).mean((2, 3)))[:, 0]


def auc(real: Tensor, fake: Tensor) -> float:
    """Area under the ROC curve: the share of pairs of which the fake one has the higher score.

    Equal scores count half (Mann & Whitney 1947); both sides (n,), in float64.
    """
    ordered = real.double().sort().values
    of = fake.double()
    below = torch.searchsorted(ordered, of).double()
    up_to = torch.searchsorted(ordered, of, right=True).double()
    return ((below + up_to) / 2 / len(real)).mean().item()


def tell_apart(real: Tensor, fake: Tensor, *, device: torch.device | str = "cpu") -> Scores:
    """Train a net to tell two sides, uint8 (n, channels, height, width), of equal numbers.

    The same images always give the same scores. ValueError for fewer than LEAST of either.
    """
    if len(real) != len(fake) or len(real) < LEAST:
        raise ValueError(
            f"the two-sample test takes as many images of either side, {LEAST} at least, "
            f"not {len(real)} and {len(fake)}"
        )
    sides = [side[_by_content(side)] for side in (real, fake)]
    ends = [round(share * len(real)) for share in (TRAINED, WATCHED)]
    trained, watched, tested = (
        torch.stack(parts)
        for parts in zip(*(side.tensor_split(ends) for side in sides), strict=True)
    )  # each uint8 (2, n, channels, height, width)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        net = _trained(trained.to(device), watched.to(device))
        found = [_scores(net, side.to(device)).cpu() for side in tested]
    return Scores(*found)


def _by_content(images: Tensor) -> Tensor:
    """An order (n,) that is random but a function of each image's pixels.

    A picture that is on both sides comes at the same place of either, so that the net does not
    learn from the one and meet the other in the test.
    """
    digests = [hashlib.blake2b(image.numpy().tobytes()).digest() for image in images.cpu()]
    return torch.tensor(sorted(range(len(digests)), key=digests.__getitem__))


def _trained(images: Tensor, watched: Tensor) -> nn.Module:
    """The net of the step at which it told the watched images best; both uint8 (2, n, c, h, w)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed_seed("two-sample net", 0))
        net = Discriminator(images.shape[2], min(images.shape[3:])).to(images.device)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-2)
    draws = generator("two-sample batches", 0)
    labels = torch.tensor([0.0, 1.0], device=images.device).repeat_interleave(BATCH // 2)
    best, kept, since = float("inf"), net.state_dict(), 0
    for step in range(1, STEPS + 1):
        chosen = torch.randint(images.shape[1], (2, BATCH // 2), generator=draws)
        batch = torch.cat([images[side][chosen[side]] for side in (0, 1)])
        loss = F.binary_cross_entropy_with_logits(net(to_float(batch)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % LOOK_EVERY:
            continue
        found = _loss(net, watched)
        if found < best:
            best, since = found, 0
            kept = {name: value.clone() for name, value in net.state_dict().items()}
        elif (since := since + 1) == PATIENCE:
            break
    net.load_state_dict(kept)
    return net


def _loss(net: nn.Module, images: Tensor) -> float:
    """Of images uint8 (2, n, channels, height, width), real ones and fake ones."""
    scores = torch.stack([_scores(net, side) for side in images])
    labels = torch.tensor([[0.0], [1.0]], device=scores.device).expand_as(scores)
    return F.binary_cross_entropy_with_logits(scores, labels).item()


@torch.no_grad()
def _scores(net: nn.Module, images: Tensor) -> Tensor:
    """uint8 (n, channels, height, width) -> (n,)."""
    return torch.cat([net(to_float(part)) for part in images.split(250)])

import pytest
import torch
from torch import nn

from vqgan.augmentation import NUM_DRAWS, augment, colour, cut_out, translate
from vqgan.discriminator import DISCRIMINATORS, Judge, Judged
from vqgan.losses import ADVERSARIAL, PIXEL_LOSSES, adaptive_weight

VALUES = {"l1": 0.5, "l2": 0.25, "l1_l2": 0.75}


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_pixel_losses_have_their_closed_values(name):
    assert (
        PIXEL_LOSSES[name](torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, 1, 2, 2)).item()
        == VALUES[name]
    )


def test_hinge_and_non_saturating_have_their_closed_values():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert ADVERSARIAL["hinge"].discriminator(real, fake).item() == pytest.approx(
        0.5 * (0.25 + 0.75)
    )
    assert ADVERSARIAL["hinge"].generator(fake).item() == pytest.approx(0.75)
    zero = torch.zeros(3)
    assert ADVERSARIAL["non_saturating"].discriminator(zero, zero).item() == pytest.approx(
        0.6931, abs=1e-4
    )
    assert ADVERSARIAL["non_saturating"].generator(zero).item() == pytest.approx(0.6931, abs=1e-4)


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms():
    """Against finite differences in double precision."""
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 4, dtype=torch.float64)

    def losses(w):
        out = x @ w.T
        return out.square().mean(), out.sin().mean()

    def norm(which):
        eye = torch.eye(weight.numel(), dtype=torch.float64).view(-1, *weight.shape) * 1e-6
        return torch.stack(
            [(losses(weight + e)[which] - losses(weight - e)[which]) / 2e-6 for e in eye]
        ).norm()

    expected = norm(0) / (norm(1) + 1e-4)
    assert adaptive_weight([losses(weight)], weight).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 32, 32), (3, 48, 32)])
def test_a_discriminator_gives_a_grid_of_logits_each_image_for_itself(
    name, channels, height, width
):
    torch.manual_seed(0)
    judge = DISCRIMINATORS[name](channels)
    images = torch.randn(2, channels, height, width)
    logits = judge(images)
    assert logits.shape[:2] == (2, 1) and logits.ndim == 4
    assert torch.allclose(judge(images[:1]), logits[:1], atol=1e-5)


def test_patchgan_learns_to_tell(tmp_path):
    torch.manual_seed(0)
    judge = DISCRIMINATORS["patchgan"](1, width=8, num_layers=2)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(20):
        real, fake = torch.rand(8, 1, 16, 16), -torch.rand(8, 1, 16, 16)
        loss = ADVERSARIAL["hinge"].discriminator(judge(real), judge(fake))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.7 and isinstance(judge, nn.Module)


class Linear(nn.Module):
    """D(x) = <w, x>, whose gradient is w."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0]).view(1, 1, 2))

    def forward(self, images):
        return (images * self.w).sum((1, 2, 3)).view(-1, 1, 1, 1)


def test_the_gradient_penalty_of_a_linear_judge_is_its_squared_weight():
    judge = Judge(Linear())
    raw = torch.randn(5, 1, 1, 2, requires_grad=True)
    judged = judge(raw, torch.randn(5, 1, 1, 2), raw=raw)
    assert judged.gradient_penalty.item() == pytest.approx(25.0)
    (0.5 * judged.gradient_penalty).backward()
    assert judge.net.w.grad.flatten().tolist() == pytest.approx([3.0, 4.0]), (
        "d (|w|^2 / 2) / dw = w"
    )
    assert judge(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)).gradient_penalty == 0
    doubled = judge(2 * raw, torch.randn(5, 1, 1, 2), raw=raw)
    assert doubled.gradient_penalty.item() == pytest.approx(100.0), (
        "of the images before they were augmented"
    )


def test_lecam_has_its_closed_value_and_remembers():
    judge = Judge(Linear(), decay=0.5)
    judge.remember(torch.tensor(2.0), torch.tensor(-4.0))
    assert (judge.mean_real.item(), judge.mean_fake.item()) == (1.0, -2.0)
    judged = Judged(torch.tensor([1.0, -3.0]), torch.tensor([0.0, 2.0]), torch.zeros(()))
    # relu(1 + 2)^2 = 9 and relu(-3 + 2)^2 = 0; relu(1 - 0)^2 = 1 and relu(1 - 2)^2 = 0
    assert judge.lecam(judged).item() == pytest.approx(4.5 + 0.5)
    assert {"mean_real", "mean_fake"} <= set(judge.state_dict())


def test_the_adaptive_weight_is_that_of_the_whole_batch():
    """Gradients are averaged over processes before their norms are taken."""
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    rec, gan = (weight * torch.tensor([3.0, 0.0])).sum(), (weight * torch.tensor([0.0, 1.0])).sum()
    other = iter((torch.tensor([0.0, 4.0]), torch.tensor([0.0, 3.0])))
    found = adaptive_weight([(rec, gan)], weight, lambda gradient: (gradient + next(other)) / 2)
    assert found.item() == pytest.approx(2.5 / (2.0 + 1e-4))
    parts = [
        (rec, gan),
        ((weight * torch.tensor([0.0, 4.0])).sum(), (weight * torch.tensor([0.0, 3.0])).sum()),
    ]
    assert adaptive_weight(iter(parts), weight).item() == pytest.approx(2.5 / (2.0 + 1e-4)), (
        "or over parts"
    )


def test_augmentation_is_drawn_for_each_image_and_passes_gradients():
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    draws = torch.rand(6, NUM_DRAWS, generator=torch.Generator().manual_seed(1))
    first, again = (augment(images, draws) for _ in range(2))
    assert first.shape == images.shape and torch.equal(first, again)
    same = augment(images[:1].expand(6, -1, -1, -1), draws)
    assert len(torch.unique(same, dim=0)) == 6
    leaf = images.clone().requires_grad_()
    augment(leaf, draws).sum().backward()
    assert leaf.grad.abs().sum() > 0


def test_augmentations_do_what_they_say():
    image = torch.arange(256.0).view(1, 1, 16, 16) / 256
    half, none = torch.tensor([0.5]), torch.tensor([0.0])
    assert torch.allclose(colour(image, half, half, half), image), (
        "the middle of every range changes nothing"
    )
    assert colour(image, torch.tensor([0.75]), half, half).mean() == pytest.approx(
        image.mean() + 0.25
    )
    assert torch.equal(translate(image, half, half), image)
    assert torch.equal(translate(image, none, half)[..., 2:, :], image[..., :-2, :])
    hole = cut_out(image + 1, half, half) == 0
    assert hole.sum() == 7 * 7 and hole[0, 0, 8, 8] and not hole[0, 0, 4, 8]


def test_a_stylegan_judge_shrinks_by_its_layers_and_does_not_see_the_batch():
    judge = DISCRIMINATORS["stylegan"](1, width=8, num_layers=2)
    assert judge(torch.randn(3, 1, 28, 20)).shape == (3, 1, 1, 1)
    flat = judge.layers[0].halved(torch.ones(1, 8, 8, 8))
    assert flat.shape == (1, 8, 4, 4) and torch.allclose(flat, torch.ones_like(flat)), (
        "the blur keeps brightness"
    )

import pytest
import torch

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

import pytest
import torch
from torch import nn

from vqgan.discriminator import DISCRIMINATORS, Judge, Judged
from vqgan.losses import ADVERSARIAL


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


def test_a_stylegan_judge_shrinks_by_its_layers_and_does_not_see_the_batch():
    judge = DISCRIMINATORS["stylegan"](1, width=8, num_layers=2)
    assert judge(torch.randn(3, 1, 28, 20)).shape == (3, 1, 1, 1)
    flat = judge.layers[0].halved(torch.ones(1, 8, 8, 8))
    assert flat.shape == (1, 8, 4, 4) and torch.allclose(flat, torch.ones_like(flat)), (
        "the blur keeps brightness"
    )

import pytest
import torch

from vqgan.augmentation import NUM_DRAWS, augment, colour, cut_out, translate


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

import pytest
import torch

from maskgit.config.sections import DecoderLoss, TokenizerLoss
from maskgit.training.launch import make_accelerator
from maskgit.training.tasks.reconstruction import Comparison
from vqgan.classifier import Classifier


@pytest.mark.parametrize("kind", [TokenizerLoss, DecoderLoss])
def test_the_perceptual_distance_counts_by_its_weight(kind, tmp_path, tiny_configs):
    Classifier(channels=1, num_classes=2, width=8).save(tmp_path / "classifier.safetensors", {})
    seen = {"name": "classifier", "weights": str(tmp_path)}
    rest = make_accelerator(tiny_configs[0].train, tmp_path), torch.contiguous_format
    images, targets = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = [
        Comparison(kind(pixel="l1", **more), "white", *rest)(images, targets)
        for more in ({}, {"perceptual": seen, "perceptual_weight": 3.0})
    ]
    plain, whole = found
    assert plain.loss == pytest.approx((images - targets).abs().mean().item())
    assert set(plain.logs) == {"pixel_loss"} and whole.logs["pixel_loss"] == plain.loss
    assert whole.loss == pytest.approx((plain.loss + 3 * whole.logs["perceptual_loss"]).item())
    assert whole.logs["perceptual_loss"] > 0

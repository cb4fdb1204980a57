"""What several tests of this wing share."""

import pytest
import torch

from vqgan.classifier import Classifier


@pytest.fixture
def judge_file(tmp_path):
    path = tmp_path / "classifier.safetensors"
    torch.manual_seed(0)
    Classifier(channels=1, num_classes=2, width=8).save(
        path, {"class_names": ["bag", "coat"], "accuracy": 0.5}
    )
    return path

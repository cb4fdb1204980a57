import pytest
import torch

from vqgan.classifier import Classifier, class_agreement, predict


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(channels=1, num_classes=3, width=8).eval()


def images(count=7, height=28, width=20):
    draws = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, height, width, generator=draws) * 2 - 1


def test_any_size_becomes_one_row_of_features_and_of_logits(classifier):
    assert classifier.features(images()).shape == (7, 64)
    assert classifier(images(height=16, width=16)).shape == (7, 3)


def test_save_and_load_read_the_same_classes(classifier, tmp_path):
    path = tmp_path / "classifier.safetensors"
    classifier.save(path, {"class_names": ["a", "b", "c"], "accuracy": 0.5})
    again, config = Classifier.load(path)
    assert not again.training and torch.equal(again(images()), classifier(images()))
    assert config["class_names"] == ["a", "b", "c"] and config["accuracy"] == 0.5


def test_agreement_is_the_share_that_is_read_as_asked(classifier):
    read = predict(classifier, images(), batch_size=3)
    assert read.shape == (7,) and torch.equal(read, classifier(images()).argmax(-1))
    other = read.clone()
    other[:3] = (other[:3] + 1) % 3
    assert class_agreement(classifier, images(), read) == 1
    assert class_agreement(classifier, images(), other) == pytest.approx(4 / 7)


def test_another_kind_of_eyes_is_saved_and_read(tmp_path):
    """Average pooling and wide convolutions; files from before these options are of the usual kind."""
    options = {"pooling": "average", "kernel_size": 5}
    witness = Classifier(channels=1, num_classes=3, width=8, **options).eval()
    witness.save(tmp_path / "w.safetensors", {})
    again, _ = Classifier.load(tmp_path / "w.safetensors")
    assert torch.equal(again(images()), witness(images()))
    assert again.layers[0].kernel_size == (5, 5) and isinstance(again.layers[3], torch.nn.AvgPool2d)
    usual = Classifier(channels=1, num_classes=3)
    assert usual.layers[0].kernel_size == (3, 3) and isinstance(usual.layers[3], torch.nn.MaxPool2d)
    with pytest.raises(ValueError, match="unknown pooling 'averag', did you mean 'average'"):
        Classifier(channels=1, num_classes=3, pooling="averag")


@pytest.mark.parametrize("width", [0, -8, 4, 12])
def test_a_width_that_its_norms_do_not_divide_is_refused(width):
    with pytest.raises(ValueError, match="width divides by 8"):
        Classifier(channels=1, num_classes=3, width=width)


def test_images_too_small_for_its_poolings_are_refused(classifier):
    assert classifier(images(height=8, width=8)).shape == (7, 3)
    with pytest.raises(ValueError, match="8x8 pixels or more, not 3x20"):
        classifier(images(height=3))

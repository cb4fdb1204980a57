import pytest
import torch

from maskgit.config.loading import load
from vqgan.classifier import Classifier
from vqgan.perceptual import ClassifierDistance, TorchvisionDistance


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    Classifier(channels=1, num_classes=3, width=8).save(tmp_path / "classifier.safetensors", {})
    return str(tmp_path)


def test_the_distance_is_zero_for_equal_images_and_grows_with_noise(weights):
    loss = ClassifierDistance(weights=weights)
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    found = [loss(images + scale * noise, images).item() for scale in (0.0, 0.1, 0.5)]
    assert found[0] == 0 < found[1] < found[2] < 4, "unit vectors are at most 2 apart"


def test_gradients_reach_the_images_and_not_the_classifier(weights):
    loss = ClassifierDistance(weights=weights)
    images = torch.zeros(1, 1, 28, 28, requires_grad=True)
    loss(images, torch.ones(1, 1, 28, 28)).backward()
    assert images.grad.abs().sum() > 0 and all(p.grad is None for p in loss.parameters())


def test_what_is_wrong_is_said(weights, tmp_path):
    with pytest.raises(ValueError, match="trained on 1 channels, the images have 3"):
        ClassifierDistance(weights=weights)(torch.zeros(1, 3, 28, 28), torch.zeros(1, 3, 28, 28))
    with pytest.raises(FileNotFoundError, match="no classifier at"):
        ClassifierDistance(weights=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="needs weights"):
        load("mnist/vqgan", ["loss.perceptual=classifier"])


def test_a_config_may_choose_it(weights):
    config = load("mnist/vqgan", [f"loss.perceptual={{name: classifier, weights: {weights}}}"])
    assert config.loss.perceptual["name"] == "classifier"


def test_perceptual_loss_is_zero_for_equal_images_and_passes_gradients(tmp_path):
    import torchvision

    torch.manual_seed(0)
    path = tmp_path / "net.pth"
    torch.save(torchvision.models.get_model("squeezenet1_1").state_dict(), path)
    loss = TorchvisionDistance(model="squeezenet1_1", weights=str(path), layers=(1, 4))
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    assert loss(grey, grey).item() == 0
    other = (-grey).requires_grad_()
    value = loss(other, grey)
    value.backward()
    assert value > 0 and other.grad.abs().sum() > 0
    assert all(not p.requires_grad for p in loss.parameters())


def test_missing_perceptual_weights_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no weights at .*nowhere.pth \(loss.perceptual.weights\)"
    ):
        TorchvisionDistance(
            model="squeezenet1_1", weights=str(tmp_path / "nowhere.pth"), layers=(1,)
        )


def test_a_pickle_that_is_not_tensors_is_not_executed(tmp_path):
    class Boom:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"a": Boom()}, tmp_path / "bad.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        TorchvisionDistance(model="squeezenet1_1", weights=str(tmp_path / "bad.pth"), layers=(1,))
    assert not (tmp_path / "executed").exists()

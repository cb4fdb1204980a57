import io
import pickle
import urllib.error

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from maskgit.evaluation.features import FEATURES, load_features


def test_the_classifier_as_a_feature_network(judge_file):
    network = load_features("classifier", judge_file)
    seen = network.see(torch.randint(256, (3, 1, 16, 16), dtype=torch.uint8))
    assert seen.features.shape == (3, 64) and seen.logits.shape == (3, 2)
    assert network.about["accuracy"].startswith("50.00%") and len(network.about["sha256"]) == 64
    with pytest.raises(ValueError, match="1 channels, the images have 3"):
        network.see(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


class Filled(FeatureExtractorInceptionV3):
    """Random weights instead of a download."""

    def load_state_dict(self, state, *args, **kwargs):
        return None


@pytest.mark.slow
def test_inception_from_a_file(tmp_path):
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    theirs = Filled("inception", ["2048", "logits_unbiased"], empty)
    torch.save(theirs.state_dict(), tmp_path / "inception.pth")
    network = load_features("inception", tmp_path / "inception.pth")
    grey = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)
    seen = network.see(grey)
    assert seen.features.shape == (2, 2048) and seen.logits.shape == (2, 1008)
    assert torch.equal(seen.features, theirs(grey.expand(-1, 3, -1, -1))[0])
    assert network.about["weights"] == "NOT the published weights"


class Evil:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("name", "title"), [("inception", "Inception"), ("mobilenet", "MobileNet-v2")]
)
def test_a_weights_file_unpickles_nothing(name, title, tmp_path, capsys):
    torch.save({"a": Evil()}, tmp_path / "evil.pth", pickle_module=pickle)
    with pytest.raises(ValueError, match=f"does not hold {title}'s weights"):
        load_features(name, tmp_path / "evil.pth")
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["inception", "mobilenet"])
def test_a_network_without_the_internet(name, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded .*no route.* --weights"):
        load_features(name, None)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_features(name, tmp_path / "nowhere.pth")


def test_mobilenet_from_a_file(tmp_path):
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    torch.manual_seed(0)
    theirs = mobilenet_v2(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "mobilenet.pth")
    network = load_features("mobilenet", tmp_path / "mobilenet.pth")
    images = torch.randint(256, (3, 3, 128, 128), dtype=torch.uint8)
    transform = MobileNet_V2_Weights.IMAGENET1K_V1.transforms(crop_size=128, resize_size=128)
    seen = network.see(images)
    assert seen.features.shape == (3, 1280)
    with torch.no_grad():
        assert torch.allclose(seen.logits, theirs(transform(images)), atol=1e-4)
    assert torch.equal(
        network.see(images[:, :1]).features,
        network.see(images[:, :1].expand(-1, 3, -1, -1)).features,
    )
    assert network.about["weights"] == "NOT the published weights"


def test_a_wrong_choice_names_the_right_ones():
    with pytest.raises(ValueError, match="did you mean 'inception'"):
        load_features("incepton", None)
    with pytest.raises(ValueError, match="need a judge: --judge auto"):
        load_features("classifier", None)
    assert all(entry.__doc__ for entry in FEATURES.values())

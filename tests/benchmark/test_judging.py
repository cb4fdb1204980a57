import pytest
import torch
from torch import nn

from maskgit.benchmark import judging
from maskgit.benchmark.judging import Panel, Side
from maskgit.data.npz import write_npz
from maskgit.data.order import spread
from maskgit.evaluation import generator, two_sample


def test_the_kind_of_features_that_sees_the_least_decides():
    def line(**fids):
        return {name: {"value": value} for name, value in fids.items()} | {"steps": "1 + 1"}

    ours, plain = (
        line(fid=2.0, recall=0.9, fid_witness=4.0),
        line(fid=12.0, recall=0.1, fid_witness=6.0),
    )
    found = judging.worst_ratio(ours, plain)
    assert found == "plain over ours: fid 6, fid_witness 1.5; worst ratio: 1.5 (fid_witness)"


class Same(nn.Module):
    """A tokenizer whose reconstructions are the images themselves."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, images):
        return images

    def decode(self, codes):
        return codes


def drawn(brightness, count, seed, path):
    """Flat grey images, of classes in turn."""
    images = torch.full((count, 1, 28, 28), brightness, dtype=torch.uint8)
    images += torch.randint(20, images.shape, generator=torch.Generator().manual_seed(seed)).byte()
    return write_npz(path, [images], tuple(images.shape), [i % 10 for i in range(count)])


@pytest.fixture
def calls(monkeypatch):
    """What the panel was asked for, in place of trained classifiers; the two-sample net is quick."""
    monkeypatch.setattr(two_sample, "STEPS", 50)
    monkeypatch.setattr(generator, "fair_threads", lambda: 1)
    found = []

    def of(self, samples, features, weights, metrics, out):
        found.append((weights.name, metrics, features))
        [fid] = [abs(float(pixels.float().mean()) - 130) for pixels in images_of(samples)]
        return {"fid": {"value": fid}}

    monkeypatch.setattr(Panel, "_of", of)
    return found


def images_of(samples):
    """The first image of a file."""
    return judging.from_npz(samples, channels=1).read([range(1)])


def test_settings_are_chosen_by_the_scout_with_other_seeds(tmp_path, calls):
    """The table's own classifiers see only what was chosen, drawn anew."""
    asked = []

    def draw(choice, count, seed, path):
        asked.append((choice, count, seed))
        return drawn(choice, count, seed, path)

    panel, side = Panel("mnist", tmp_path), Side("ours", Same(), (20, 120, 230), draw)
    best, words = judging.scouted(panel, side, 40)
    assert best == 120 and words.startswith("the scout's FID of 40: 20 ")
    assert {name for name, *_ in calls} == {"scout"}
    assert asked == [(choice, 40, judging.SCOUTED_SEED) for choice in (20, 120, 230)]
    assert not list(tmp_path.iterdir()), "what was only tried is not kept"
    found = judging.judged(panel, side, 60)
    assert asked[-1] == (120, 60, judging.SEED) and calls[-1][:2] == ("judge", judging.MEASURED)
    assert found["numbers"]["sampler"].startswith("120 (")


def test_samples_like_reconstructions_are_not_told_from_them(tmp_path, calls):
    """And flat grey is: its area under the curve is 1."""
    panel = Panel("mnist", tmp_path)
    side = Side("plain", Same(), (120,), drawn)
    found = panel.numbers(side, drawn(120, 60, 0, tmp_path / "grey.npz"))
    assert found[judging.AGAIN]["value"] > 0.95
    source = judging.from_source(judging.data_of("mnist/vqgan"), "train")
    digits = torch.cat(list(source.read([range(i, i + 1) for i in spread(source.num_images, 400)])))
    own = write_npz(tmp_path / "own.npz", [digits], tuple(digits.shape), [0] * len(digits))
    assert 0.35 < panel.numbers(side, own)[judging.AGAIN]["value"] < 0.65

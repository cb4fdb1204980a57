import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_info
from torch_fidelity import calculate_metrics, register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from maskgit.config.sections import DataConfig
from maskgit.evaluation import metrics
from maskgit.evaluation.feature_sets import FeatureSet, extract, moments
from maskgit.evaluation.features import Seen
from maskgit.evaluation.generator import SETS
from maskgit.evaluation.image_sets import ImageSet, from_source
from maskgit.evaluation.metrics import (
    METRICS,
    Metric,
    by_class,
    estimate,
    fid,
    nearest_distance,
    neighbours,
    prdc,
)
from vqgan.classifier import Classifier


def feature_set(features, labels=None, judged=None):
    """FeatureSet of given features (n, dim)."""
    features = torch.as_tensor(features)
    rows = torch.arange(len(features))
    return FeatureSet(
        len(rows), *moments(features), features.float(), features.float(), labels, judged, rows, {}
    )


def gaussian(mean, covariance):
    """A FeatureSet that knows exactly its moments and holds no image."""
    none = torch.empty(0, len(mean))
    return FeatureSet(
        10**6, np.array(mean), np.array(covariance), none, none, None, None, torch.empty(0), {}
    )


def normal(n, dim, seed, shift=0.0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


def test_fid_of_two_gaussians_is_the_closed_form():
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 2.25])
    expected = 1 + 4 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert fid(gaussian([0, 0, 0], np.diag(a)), gaussian([1, 0, 2], np.diag(b)))[
        "fid"
    ] == pytest.approx(expected)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = [
        gaussian(turn @ m, turn @ np.diag(c) @ turn.T) for m, c in (([0, 0, 0], a), ([1, 0, 2], b))
    ]
    assert fid(*turned)["fid"] == pytest.approx(expected, rel=1e-9)


def test_fid_of_covariances_that_do_not_commute():
    """tr sqrt(AB) of 2x2 matrices is sqrt(tr AB + 2 sqrt(det AB))."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    expected = np.trace(a) + np.trace(b) - 2 * root
    assert fid(gaussian([0, 0], a), gaussian([0, 0], b))["fid"] == pytest.approx(expected, rel=1e-9)


class Net:
    """A classifier with fixed random weights: what it sees differs between pictures, and needs no
    training."""

    def __init__(self, channels=1):
        torch.manual_seed(0)
        self.classifier = Classifier(channels=channels, num_classes=10, width=8).eval()
        self.about = {"network": "random"}
        self.calls = 0

    @torch.no_grad()
    def see(self, images):
        self.calls += 1
        features = self.classifier.features(images.float() / 127.5 - 1)
        return Seen(features, self.classifier.to_logits(features) * 20)


class Extractor(FeatureExtractorBase):
    """The same net as torch-fidelity wants it."""

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)
        self.net = Net()
        self.classifier = self.net.classifier

    @staticmethod
    def get_provided_features_list():
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled():
        return False

    @staticmethod
    def get_dummy_input_for_compile():
        return None

    def forward(self, images):
        seen = self.net.see(images)
        found = {"features": seen.features, "logits": seen.logits}
        return tuple(found[name] for name in self.features_list)


class Pixels(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def image_set(images, labels=None):
    return ImageSet(
        len(images),
        labels,
        lambda chunks: (images[c.start : c.stop] for c in chunks),
        {"set": "test"},
    )


@pytest.fixture(scope="module")
def digits():
    """(1,000 training digits, 1,000 held-out ones), uint8."""
    sets = [
        from_source(DataConfig(source="mnist5k"), split, 1000) for split in ("train", "validation")
    ]
    return [torch.cat(list(s.read([range(1000)]))) for s in sets]


def few(digits):
    """300 of either, of all classes."""
    return [
        images[torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:300]]
        for images in digits
    ]


def test_the_numbers_of_torch_fidelity_on_the_same_features(digits):
    real, fake = digits
    register_feature_extractor("random-classifier", Extractor)
    theirs = calculate_metrics(
        input1=Pixels(fake), input2=Pixels(real), cuda=False, batch_size=100, verbose=False,
        feature_extractor="random-classifier", fid=True, kid=True, isc=True, kid_subset_size=1000,
        save_cpu_ram=True, cache=False,
    )  # fmt: skip
    sets = [extract(image_set(images), Net()) for images in (real, fake)]
    ours = (
        METRICS["fid"].compute(*sets) | METRICS["kid"].compute(*sets) | METRICS["is"].compute(*sets)
    )
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6, abs=1e-6)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)
    assert ours["inception_score"] == pytest.approx(theirs["inception_score_mean"], abs=1e-6)


def worse(images, how, amount):
    """Degraded digits: noise of `amount` grey levels, or a box blur of width `amount`."""
    values = images.float()
    if how == "noise":
        values = values + amount * torch.randn(
            values.shape, generator=torch.Generator().manual_seed(0)
        )
    else:
        values = F.avg_pool2d(F.pad(values, (amount // 2,) * 4, mode="replicate"), amount, stride=1)
    return values.clamp(0, 255).round().to(torch.uint8)


@pytest.mark.parametrize("how, amounts", [("noise", (16, 48, 96)), ("blur", (3, 5, 9))])
def test_more_of_a_degradation_is_worse(digits, how, amounts):
    real, fake = few(digits)
    reference = extract(image_set(real), Net())
    sets = [
        extract(image_set(x), Net())
        for x in (fake, *(worse(fake, how, amount) for amount in amounts))
    ]
    for name, key in (("fid", "fid"), ("kid", "kid")):
        values = [METRICS[name].compute(reference, s)[key] for s in sets]
        assert values == sorted(values), (name, values)
    manifold = [prdc(reference, s) for s in sets]
    assert manifold[0]["precision"] > manifold[-1]["precision"]
    assert (
        manifold[0]["coverage"] > manifold[1]["coverage"] > manifold[-1]["coverage"]
        or how == "blur"
    )


def test_a_dropped_class_is_seen_by_fid_recall_and_coverage(digits):
    real, fake = digits
    labels = torch.from_numpy(from_source(DataConfig(source="mnist5k"), "validation", 1000).labels)
    reference = extract(image_set(real), Net())
    whole = extract(image_set(fake), Net())
    kept = fake[labels != 1]
    dropped = extract(image_set(torch.cat((kept, kept[:100]))), Net())
    assert fid(reference, dropped)["fid"] > 1.5 * fid(reference, whole)["fid"]
    assert prdc(reference, dropped)["coverage"] < prdc(reference, whole)["coverage"] - 0.03


def test_prdc_of_the_same_and_of_disjoint_sets():
    real = feature_set(normal(200, 4, 0))
    assert prdc(real, real) == pytest.approx(
        {"precision": 1, "recall": 1, "coverage": 1, "density": 1.2}, abs=0.25
    )
    assert prdc(real, feature_set(normal(200, 4, 1, shift=100.0))) == dict.fromkeys(
        ("precision", "recall", "density", "coverage"), 0.0
    )


def test_copies_of_training_images_are_at_distance_zero_and_named():
    real = feature_set(normal(50, 8, 0))
    copies = real.take(torch.tensor([7, 3, 41]))
    assert neighbours(real, copies, 2).indices[:, 0].tolist() == [7, 3, 41]
    assert nearest_distance(real, copies)["nearest_distance"] == pytest.approx(0, abs=1e-3)
    assert nearest_distance(real, feature_set(normal(50, 8, 1)))["nearest_distance"] > 1


def test_the_inception_score_of_perfect_classes_is_their_number():
    logits = torch.eye(10).repeat(2000, 1) * 100
    assert METRICS["is"].compute(feature_set(logits), feature_set(logits))[
        "inception_score"
    ] == pytest.approx(10, 0.01)


def test_agreement_counts_what_the_judge_reads():
    labels = torch.tensor([0, 1, 2, 3])
    found = feature_set(normal(4, 2, 0), labels, torch.tensor([0, 1, 2, 0]))
    assert METRICS["agreement"].compute(found, found)["class_agreement"] == 0.75
    with pytest.raises(ValueError, match="judge"):
        METRICS["agreement"].compute(found, feature_set(normal(4, 2, 0)))


MEAN = Metric(
    lambda _, fake: {"mean": fake.features[:, 0].mean().item()},
    ("real", "fake"),
    "higher",
    unbiased=True,
)


@pytest.mark.parametrize("metric, key", [(MEAN, "mean"), (METRICS["fid"], "fid")])
def test_nineteen_of_twenty_intervals_hold_what_repeats_give(metric, key):
    """The interval around one set's number holds the mean over many sets, as often as it says, give
    or take."""
    real = feature_set(normal(2000, 4, 10**6))
    found = [
        estimate(metric, real, feature_set(normal(300, 4, seed, shift=0.3)))[key]
        for seed in range(120)
    ]
    truth = np.mean([e.value for e in found])
    held = np.mean([abs(e.value - truth) <= e.half_width for e in found])
    assert 0.88 <= held <= 1


def test_images_sorted_by_label_have_the_same_intervals():
    """A folder or an .npz file lists one class after the other; groups by position would be
    classes."""
    labels = torch.arange(10).repeat_interleave(100)
    features = normal(1000, 4, 0) + 3 * normal(10, 4, 1)[labels]
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(2))
    widths = [estimate(MEAN, feature_set(features), feature_set(features[rows]))["mean"].half_width for rows in (torch.arange(1000), order)]  # fmt: skip
    by_class = features[:, 0].view(10, 100).mean(1).std().item() / 10**0.5 * 2.262
    assert max(widths) < 0.3 * by_class


def test_a_metric_that_looks_at_few_images_thins_them_once():
    """So that each group leaves out a tenth of the same images, as the jackknife asks."""
    seen = []

    def compute(real, fake):
        seen.append(set(fake.indices.tolist()))
        return {"x": fake.features.mean().item()}

    some = feature_set(normal(1000, 3, 0))
    estimate(
        Metric(compute, ("real", "fake"), "higher", most=200), some, some.take(torch.arange(1000))
    )
    assert len(seen[0]) == 200 and all(part < seen[0] and len(part) == 180 for part in seen[1:])


def test_with_few_images_there_is_no_interval():
    found = estimate(METRICS["fid"], feature_set(normal(99, 3, 0)), feature_set(normal(99, 3, 1)))[
        "fid"
    ]
    assert math.isnan(found.half_width) and found.value > 0


@pytest.mark.parametrize("name", METRICS)
def test_contract_of_every_metric(name):
    """A metric gives finite numbers for two ordinary sets, the same each time, and names its sets
    and direction."""
    metric = METRICS[name]
    labels = torch.arange(120) % 3
    sets = [feature_set(normal(120, 5, seed), labels, labels) for seed in (0, 1)]
    found = metric.compute(*sets)
    assert (
        found
        and found == metric.compute(*sets)
        and all(math.isfinite(value) for value in found.values())
    )
    assert metric.better in ("lower", "higher") and metric.compute.__doc__
    assert set(metric.sets) <= {side for names in SETS for side in names}
    assert set(metric.needs) <= {"run", "tokenizer", "judge", "labels"}
    assert all(math.isfinite(e.half_width) for e in estimate(metric, *sets).values())


def test_a_stream_gives_the_moments_of_the_whole(digits):
    images, _ = digits
    net = Net()
    whole = net.see(images).features.double()
    found = extract(image_set(images, np.arange(1000) % 10), net, batch_size=64, keep=100)
    assert found.num_images == 1000 and found.features.shape == (100, whole.shape[1])
    assert np.allclose(found.mean, whole.mean(0).numpy(), rtol=1e-6, atol=1e-9)
    assert np.allclose(found.covariance, np.cov(whole.numpy(), rowvar=False), rtol=1e-5, atol=1e-9)
    assert torch.allclose(found.features, whole[found.indices].float(), atol=1e-5)
    assert torch.equal(found.labels, found.indices % 10)


def test_each_class_is_told_by_its_own_mean():
    """Class 1 lies 3 apart in one of 8 directions, class 0 where it should; class 2 has too few
    images to tell."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 400 + [1] * 400 + [2] * 5)
    sides = []
    for moved in (0.0, 3.0):
        features = torch.randn(len(labels), 8, generator=draws)
        features[labels == 1, 0] += moved
        judged = torch.where(labels == 1, 0, labels) if moved else labels
        empty = np.zeros(0)
        about = torch.arange(len(labels))
        sides.append(
            FeatureSet(len(labels), empty, empty, features, features, labels, judged, about, {})
        )
    found = by_class(*sides, ["boot", "shoe", "bag"])
    assert list(found) == ["boot", "shoe"]
    assert abs(found["boot"]["shift"]) < 0.05 and found["shoe"]["shift"] == pytest.approx(
        9.0, abs=0.6
    )
    assert found["boot"]["agreement"] == 1.0 and found["shoe"]["agreement"] == 0.0
    assert by_class(sides[0], sides[1]._replace(labels=None), ["boot"]) == {}


def test_metrics_have_their_share_of_the_cores_and_give_it_back(monkeypatch):
    """Of torch and of numpy: a launcher has left each process one thread."""
    seen = []

    def look(real, fake):
        seen.append((torch.get_num_threads(), *(part["num_threads"] for part in threadpool_info())))
        return {"fid": 1.0}

    before = torch.get_num_threads()
    monkeypatch.setattr(metrics, "fair_threads", lambda: before + 1)
    side = feature_set(normal(20, 3, 0))
    estimate(METRICS["fid"]._replace(compute=look), side, side)
    assert len(seen[0]) > 1 and set(seen[0]) == {before + 1}
    assert torch.get_num_threads() == before

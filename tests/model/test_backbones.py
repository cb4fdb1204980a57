"""A backbone of one's own: an MLP-mixer with a condition of two attributes, in this file alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maskgit import BACKBONES, SOURCES, Pipeline
from maskgit.config import load, parse
from maskgit.data.sources.source import Source
from maskgit.data.tokenization import tokenize_dataset
from maskgit.model.backbones import Backbone, make_backbone, make_critic, spec_of
from maskgit.training.trainer import train
from tests.conftest import TINY_TOKENIZER

NO_CLASS, NO_NUMBER = -1.0, -2.0


class Mixer(nn.Module):
    """MLP-Mixer (arXiv:2105.01601) over the cells; condition: (batch, 2), a class and a brightness in [-1, 1].

    Class labels alone, (batch,), leave the brightness open.
    """

    any_grid = False

    def __init__(self, *, codebook_size, grid, num_classes, dim: int = 32, depth: int = 2):
        super().__init__()
        self.config = {
            "codebook_size": codebook_size,
            "grid": grid,
            "num_classes": num_classes,
            "dim": dim,
            "depth": depth,
        }
        self.grid, self.emb_dim = tuple(grid), dim
        cells = grid[0] * grid[1]
        self.codes = nn.Embedding(codebook_size + 1, dim)
        self.places = nn.Parameter(torch.randn(cells, dim) * 0.1)
        self.classes = nn.Embedding(num_classes + 1, dim)
        self.brightness = nn.Linear(2, dim)
        self.across = nn.ModuleList(
            nn.Sequential(nn.Linear(cells, 2 * cells), nn.GELU(), nn.Linear(2 * cells, cells))
            for _ in range(depth)
        )
        self.within = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
            )
            for _ in range(depth)
        )
        self.to_logits = nn.Linear(dim, codebook_size)

    def check_grid(self, height, width):
        if (height, width) != self.grid:
            raise ValueError(f"grids of {self.grid} only")

    def null(self, condition):
        """One attribute dropped at a time: in training either by a coin, for guidance the class."""
        if condition.ndim == 1:
            return torch.full_like(condition, NO_CLASS)
        condition = condition.clone()
        drop_class = torch.ones(len(condition), dtype=torch.bool)
        if self.training:
            drop_class = torch.rand(len(condition)) < 0.5
        condition[drop_class, 0] = NO_CLASS
        condition[~drop_class, 1] = NO_NUMBER
        return condition

    @staticmethod
    def attributes(condition):
        if condition.ndim == 2:
            return condition.double()
        return torch.stack(
            [condition.double(), torch.full(condition.shape, NO_NUMBER, dtype=torch.float64)], 1
        )

    def forward(self, codes, condition=None, *, return_embeddings=False):
        condition = torch.full((len(codes),), NO_CLASS) if condition is None else condition
        number, bright = self.attributes(condition).unbind(1)
        labels = torch.where(
            (number < 0) | (number >= len(self.classes.weight)),
            len(self.classes.weight) - 1,
            number,
        )
        known = (bright != NO_NUMBER).float()
        seen = self.classes(labels.long()) + self.brightness(
            torch.stack([bright.float() * known, known], 1)
        )
        x = self.codes(codes.flatten(1)) + self.places + seen[:, None]
        for across, within in zip(self.across, self.within, strict=True):
            x = x + across(x.transpose(1, 2)).transpose(1, 2)
            x = x + within(x)
        x = x.unflatten(1, codes.shape[1:])
        return x if return_embeddings else self.to_logits(x)


def bright(split, *, num_images: int = 48):
    """Grey pictures of two classes, a bar above or below, of a brightness each has its own of."""
    rng = np.random.default_rng(split == "train")
    numbers = np.stack([np.arange(num_images) % 2, rng.uniform(-1, 1, num_images)], 1)
    images = np.zeros((num_images, 16, 16), np.uint8)
    for image, (label, value) in zip(images, numbers, strict=True):
        image[2 + 8 * int(label) : 6 + 8 * int(label)] = 128 + 120 * value
    return Source(
        lambda i: Image.fromarray(images[i]), numbers, ("above", "below"), lambda i: f"bright[{i}]"
    )


@pytest.fixture
def listed(monkeypatch):
    monkeypatch.setitem(BACKBONES, "mixer", Mixer)
    monkeypatch.setitem(SOURCES, "bright", bright)


TRAIN = {
    "steps": 4,
    "batch_size": 8,
    "precision": "fp32",
    "trackers": [],
    "eval_every": 4,
    "preview_every": 4,
}


@pytest.fixture
def run(listed, tmp_path):
    """A generator of this backbone, trained by the task on the codes of that source."""
    vqgan = {
        "task": "tokenizer",
        "run": str(tmp_path / "vqgan"),
        "data": {"source": "bright", "image_size": 16},
        "model": {**TINY_TOKENIZER, "quantizer": {"name": "fsq", "levels": [4, 4]}},
        "train": TRAIN,
    }
    train(parse(vqgan, "vqgan"))
    tokenize_dataset(vqgan["run"], tmp_path / "codes")
    generator = {
        "task": "maskgit",
        "run": str(tmp_path / "maskgit"),
        "tokenizer": vqgan["run"],
        "codes": str(tmp_path / "codes"),
        "model": {"name": "mixer", "dim": 16},
        "loss": {"condition_dropout": 0.5},
        "sampler": {"name": "confidence", "steps": 4},
        "train": TRAIN,
    }
    train(parse(generator, "maskgit"))
    return tmp_path / "maskgit"


def test_it_trains_samples_with_guidance_saves_and_loads(run):
    config = load(run / "config.yaml")
    assert config.model.model_dump() == {"name": "mixer", "dim": 16, "depth": 2}
    pipeline = Pipeline.from_pretrained(run)
    net = pipeline.net
    assert isinstance(net, Mixer)
    with torch.no_grad():
        # in four steps nothing is learned: so that the condition counts
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    condition = torch.tensor([[0, -0.5], [1, -0.5], [1, 0.9]], dtype=torch.float64)
    options = {"seeds": [3, 3, 3], "guidance": 3.0}
    images = [np.asarray(image) for image in pipeline.generate(condition, **options)]
    assert (images[0] != images[1]).any() and (images[1] != images[2]).any(), (
        "both attributes count"
    )
    alone = np.asarray(pipeline.generate(condition[1:2], seeds=[3], guidance=3.0)[0])
    assert (alone == images[1]).all(), "image i depends on its condition and seed only"
    again = Pipeline.from_pretrained(pipeline.save_pretrained(run.parent / "again"))
    assert isinstance(again.net, Mixer)
    assert all(
        (np.asarray(a) == b).all()
        for a, b in zip(again.generate(condition, **options), images, strict=True)
    )
    led_away = pipeline.generate(condition, negative=torch.tensor([[NO_CLASS, 0.9]] * 3), **options)
    assert any((np.asarray(a) != b).any() for a, b in zip(led_away, images, strict=True))
    assert len(pipeline.generate([0, 1, 2])) == 3, "class labels, and none, still do"


def test_guidance_is_along_the_class_alone(listed):
    net = make_backbone({"name": "mixer"}, codebook_size=8, grid=(2, 3), num_classes=2).eval()
    condition = torch.tensor([[1.0, 0.3]])
    assert net.null(condition).tolist() == [[NO_CLASS, pytest.approx(0.3)]]
    dropped = net.train().null(condition.expand(200, 2))
    one = (dropped[:, 0] == NO_CLASS).int() + (dropped[:, 1] == NO_NUMBER).int()
    assert (one == 1).all() and 60 < (dropped[:, 0] == NO_CLASS).sum() < 140


WITHOUT_NULL = {"maskgit_flax"}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_keeps_its_promise(name):
    shape = {"codebook_size": 8, "grid": (2, 3), "num_classes": 2, "num_outputs": None}
    net = make_backbone({"name": name, "depth": 2}, **shape).eval()  # of its own width
    knows_none = name not in WITHOUT_NULL
    codes, condition = torch.randint(9, (4, 2, 3)), torch.tensor([0, 1, 2 if knows_none else 1, 0])
    assert net(codes, condition).shape == (4, 2, 3, 8)
    embeddings = net(codes, condition, return_embeddings=True)
    assert embeddings.shape == (4, 2, 3, net.emb_dim)
    assert torch.allclose(net.to_logits(embeddings), net(codes, condition), atol=1e-5)
    if knows_none:
        assert torch.allclose(net(codes), net(codes, net.null(condition)), atol=1e-5)
    else:
        for work in (lambda: net.null(condition), lambda: net(codes)):
            with pytest.raises(ValueError, match="without a label for none"):
                work()
    assert net.grid == (2, 3)
    if not net.any_grid:
        with pytest.raises(ValueError):
            net.check_grid(3, 3)
    again = make_backbone(spec_of(net)).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(codes, condition), net(codes, condition))
    promised = {name for name in (*vars(Backbone), *Backbone.__annotations__) if name[0] != "_"}
    assert isinstance(net, nn.Module) and promised <= set(dir(net))


def test_what_a_backbone_does_not_know_is_refused(listed):
    shape = {"codebook_size": 8, "grid": (2, 3), "num_classes": 2}
    with pytest.raises(ValueError, match=r"unknown backbone 'mixr', did you mean 'mixer'\?"):
        parse({"task": "maskgit", "model": {"name": "mixr"}}, "c")
    with pytest.raises(ValueError, match=r"unknown key model.deep, did you mean 'depth'\?"):
        parse({"task": "maskgit", "model": {"name": "mixer", "deep": 3}}, "c")
    with pytest.raises(ValueError, match="mixer has no num_outputs: it cannot be a critic"):
        make_critic({"name": "mixer"}, make_backbone({"name": "mixer"}, **shape), "critic", **shape)

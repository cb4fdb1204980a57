"""Every config that ships: it loads, says how to run it and what to expect, and its model can be
made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.config.loading import find_config, known_configs, load, parse, to_dict
from maskgit.data.tokenization import tokenize_dataset
from maskgit.model.backbones import make_backbone
from maskgit.training.checkpoints import load_latest
from maskgit.training.tasks.preview import first_classes
from maskgit.training.trainer import train
from tests.data.conftest import make_cifar, make_imagenet
from vqgan.tokenizer import Tokenizer

DATA_SETS = ("mnist", "fashion_mnist", "cifar10", "imagenet256", "own", "sprites")


def test_every_data_set_has_both_stages():
    assert {f"{name}/{stage}" for name in DATA_SETS for stage in ("vqgan", "maskgit")} <= set(
        known_configs()
    )


@pytest.mark.parametrize("name", known_configs())
def test_a_config_opens_with_its_command(name):
    header = [line for line in find_config(name).read_text().splitlines() if line.startswith("#")]
    assert any(f"configs/{name}.yaml" in line for line in header), "the command that runs it"
    assert any("measured" in line or "not trained" in line for line in header), (
        "what to expect, honestly"
    )


TOKENIZERS = [name for name in known_configs() if "/vqgan" in name]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_two_stages_fit(name):
    data, stage = name.split("/")
    vqgan, generator = load(name), load(f"{data}/maskgit")
    assert generator.tokenizer == vqgan.run or stage != "vqgan"
    assert vqgan.run == f"runs/{name}", "no two tokenizers train into one run"
    tokenizer = Tokenizer(
        image_size=vqgan.data.image_size, channels=vqgan.data.channels, **vqgan.model.model_dump()
    )
    with torch.device("meta"):
        shape = {
            "codebook_size": tokenizer.codebook_size,
            "grid": tokenizer.grid,
            "num_classes": 10,
        }
        net = make_backbone(generator.model.model_dump(), **shape)
    assert net.mask_id == tokenizer.codebook_size
    assert generator.model.dim_head * generator.model.heads == generator.model.dim


@pytest.mark.parametrize("data", ["own", "sprites"])
def test_two_steps_of_each_stage_of_a_folder(data, tmp_path, monkeypatch):
    """The data, sizes and models of the config; only batches and evaluations are small."""
    monkeypatch.setattr(first_classes, "__defaults__", (2, 2))
    rng = np.random.default_rng(0)
    for name in ("drakes/burner", "drakes/fire", "elves/scout", "elves/shaman"):
        for frame in range(3):
            path = tmp_path / "pictures" / f"{name}-{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (70, 72, 4), dtype=np.uint8)).save(path)
    small = {"steps": 2, "batch_size": 2, "max_eval_images": 4, "trackers": [], "precision": "fp32"}
    stages = ["classifier", "vqgan", "maskgit", *(["critic"] if data == "sprites" else [])]
    for stage in stages:
        values = to_dict(load(f"{data}/{stage}"))
        values["run"] = str(tmp_path / stage)
        values["train"] |= small
        if "data" in values:
            values["data"]["source"]["root"] = str(tmp_path / "pictures")
            values["data"]["workers"] = 0
        else:
            values["codes"] = str(tmp_path / "codes")
            values["sampler"]["steps"] = 2
        if stage == "vqgan":
            eyes = {"name": "classifier", "weights": str(tmp_path / "classifier")}
            values["loss"]["perceptual"] = eyes
        if stage == "maskgit":
            tokenize_dataset(tmp_path / "vqgan", tmp_path / "codes", batch_size=4)
            values["tokenizer"] = str(tmp_path / "vqgan")
        if stage == "critic":
            values["generator"] = str(tmp_path / "maskgit")
        train(parse(values, stage))
        assert load_latest(tmp_path / stage).step == 2


@pytest.mark.parametrize("size", [128, 512])
@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name.startswith("imagenet256")])
def test_imagenet_s_size_is_only_a_number(name, size):
    vqgan = load(name, [f"data.image_size={size}", "model.widths=[8,8,8,8,8]"])
    tokenizer = Tokenizer(image_size=vqgan.data.image_size, channels=3, **vqgan.model.model_dump())
    generator = load("imagenet256/maskgit")
    with torch.device("meta"):
        shape = {
            "codebook_size": tokenizer.codebook_size,
            "grid": tokenizer.grid,
            "num_classes": 1000,
        }
        net = make_backbone(generator.model.model_dump(), **shape)
    assert tokenizer.grid == (size // 16, size // 16) and net.max_seq_len == (size // 16) ** 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in TOKENIZERS if name.startswith(("cifar10", "imagenet256"))]
)
def test_two_steps_of_each_stage_in_the_real_on_disk_format(name, tmp_path, monkeypatch):
    """The data, sizes and models of the config; only the batch is small, and the widths of
    ImageNet's. The generator is run on the first tokenizer of each data set."""
    data, stage = name.split("/")
    root = (
        make_cifar(tmp_path, monkeypatch, per_batch=4)
        if data == "cifar10"
        else make_imagenet(tmp_path / "imagenet", size=256)
    )
    monkeypatch.setattr(first_classes, "__defaults__", (2, 2))
    small = {
        "steps": 2,
        "batch_size": 2,
        "accumulate": 1,
        "trackers": [],
        "log_every": 1,
        "max_eval_images": 4,
        "precision": "fp32",
    }
    values = to_dict(load(name))
    values["run"] = str(tmp_path / "vqgan")
    values["data"] |= {
        "source": {"name": values["data"]["source"]["name"], "root": str(root)},
        "workers": 0,
    }
    values["train"] |= small
    values["loss"]["perceptual"] = None  # its weights are a download
    if values["loss"]["adversarial"]:
        adversarial = values["loss"]["adversarial"]
        adversarial["start_step"] = 1
        if isinstance(adversarial["discriminator"], dict):
            adversarial["discriminator"]["width"] //= 8
    if data == "imagenet256":
        values["model"]["widths"] = [width // 8 for width in values["model"]["widths"]]
    train(parse(values, data))
    if stage != "vqgan":
        assert load_latest(Path(values["run"])).step == 2
        return
    tokenize_dataset(values["run"], tmp_path / "codes", batch_size=4)
    values = to_dict(load(f"{data}/maskgit"))
    values |= {
        "run": str(tmp_path / "maskgit"),
        "tokenizer": str(tmp_path / "vqgan"),
        "codes": str(tmp_path / "codes"),
    }
    values["train"] |= small
    values["sampler"] = {"name": "confidence", "steps": 2}
    if data == "imagenet256":
        values["model"] |= {"dim": 64, "depth": 2, "heads": 1}
    train(parse(values, data))
    assert load_latest(Path(values["run"])).step == 2

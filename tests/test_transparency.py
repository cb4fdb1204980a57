"""Transparent images from a folder to every file that comes of them: one run through all commands."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.config.loading import parse
from maskgit.data.alpha import laid, straight
from maskgit.data.npz import read_npz
from maskgit.data.pixels import open_image, to_pixels
from maskgit.evaluation.image_sets import from_files, from_pipeline
from maskgit.pipeline import Pipeline
from maskgit.training import train
from tests.conftest import TINY_TOKENIZER, cli
from vqgan.classifier import Classifier

TRAIN = {
    "steps": 4, "batch_size": 8, "warmup_steps": 2, "eval_every": 2, "preview_every": 4,
    "save_every": 4, "mixed_precision": "no", "trackers": [],
}  # fmt: skip


def make_sprites(root):
    """Two classes of discs on nothing, whose hidden colour is a lie."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:20, :20]
    for split, count in (("train", 12), ("val", 40)):
        for label, name in enumerate(("blue", "red")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                middle = rng.integers(8, 12, 2)
                inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < 36
                pixels = np.where(inside[..., None], (255 * label, 0, 255 - 255 * label, 255), 0)
                pixels[~inside, 1] = 255
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """All three stages of one small training."""
    top = tmp_path_factory.mktemp("transparency")
    source = {"name": "folder", "root": str(make_sprites(top / "sprites"))}
    data = {"source": source, "image_size": 16, "channels": 4, "background": "grey", "flip": True}
    classifier = {"task": "classifier", "run": str(top / "classifier"), "data": data}
    train(parse({**classifier, "train": TRAIN, "model": {"width": 8}}, "classifier"))
    vqgan = {
        "task": "tokenizer",
        "run": str(top / "vqgan"),
        "data": data,
        "model": {**TINY_TOKENIZER, "quantizer": {"name": "fsq", "levels": [4, 4]}},
        "loss": {
            "perceptual": {"name": "classifier", "weights": classifier["run"]},
            "adversarial": {
                "start_step": 1, "augment": True, "r1": 1.0,
                "discriminator": {"name": "patchgan", "width": 8, "num_layers": 1},
            },
        },
        "train": TRAIN,
    }  # fmt: skip
    train(parse(vqgan, "vqgan"))
    assert cli("tokenize", top / "vqgan", "--out", top / "codes") == 0
    generator = {
        "task": "maskgit",
        "run": str(top / "maskgit"),
        "tokenizer": vqgan["run"],
        "codes": str(top / "codes"),
        "model": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8},
        "sampler": {"name": "confidence", "steps": 3},
        "train": TRAIN,
    }
    train(parse(generator, "maskgit"))
    return top


def test_nets_learn_four_channels_and_a_classifier_sees_three(place):
    pipeline = Pipeline.from_pretrained(str(place / "maskgit"))
    assert pipeline.tokenizer.channels == 4
    assert (
        Classifier.load(place / "classifier" / "classifier.safetensors")[1]["model"]["channels"]
        == 3
    )


def test_samples_are_rgba_in_every_form(place, tmp_path):
    words = ("--labels", "red", "--per-label", "3", "--seed", "5")
    for out in (tmp_path / "files", tmp_path / "all.npz", tmp_path / "grid.png"):
        assert cli("sample", place / "maskgit", *words, "--out", out) == 0
    pictures = [open_image(path) for path in sorted((tmp_path / "files").glob("*.png"))]
    assert [picture.mode for picture in pictures] == ["RGBA"] * 3
    arrays = read_npz(tmp_path / "all.npz")["arr_0"]
    assert np.array_equal(arrays, np.stack([np.asarray(picture) for picture in pictures]))
    assert open_image(tmp_path / "grid.png").mode == "RGB"
    pipeline = Pipeline.from_pretrained(str(place / "maskgit"))
    images = pipeline.generate(["red"] * 3, seeds=[5, 6, 7])
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), arrays)
    called = {
        kind: pipeline(
            ["red"], generator=torch.Generator().manual_seed(0), output_type=kind
        ).images[0]
        for kind in ("pil", "np", "pt")
    }
    assert np.array_equal(called["pt"].permute(1, 2, 0).numpy(), called["np"])
    alpha = np.asarray(called["pil"])[..., 3:] / 255
    assert np.abs(called["np"][..., 3:] - alpha).max() < 1 / 255
    error = np.abs(called["np"][..., :3] - np.asarray(called["pil"])[..., :3] / 255) * alpha
    assert error.max() < 1.5 / 255, "weighed by what of it is seen"


def test_files_measure_as_what_drew_them(place, tmp_path):
    pipeline = Pipeline.from_pretrained(str(place / "maskgit"))
    drawn = from_pipeline(pipeline, 4)
    pixels = next(drawn.read([range(4)]))
    assert drawn.background == "grey" and pixels.shape == (4, 4, 16, 16)
    for number, row in enumerate(pixels.movedim(1, -1).numpy()):
        Image.fromarray(straight(row)).save(tmp_path / f"{number}.png")
    found = from_files(tmp_path, channels=4)
    assert torch.equal(laid(next(found.read([range(4)])), "grey"), laid(pixels, "grey"))
    assert from_files(tmp_path).shape() == (3, 16, 16), "on white, where nobody asks for alpha"


def test_a_run_is_evaluated_on_its_background(place, tmp_path):
    out = tmp_path / "of-run"
    judge = place / "classifier"
    words = ("--features", "classifier", "--metrics", "fid,rfid", "--count", "40")
    assert cli("evaluate", place / "maskgit", *words, "--judge", judge, "--out", out) == 0
    found = json.loads((out / "results.json").read_text())
    assert "centre cropped, on grey" in json.dumps(found) and found["numbers"]["fid"]["value"] > 0
    words = ("--metrics", "psnr,ssim,codes", "--out", tmp_path / "of-vqgan")
    assert cli("evaluate", place / "vqgan", *words) == 0
    assert open_image(tmp_path / "of-vqgan" / "reconstructions.png").mode == "RGB"


def test_edits_keep_alpha_and_what_is_not_asked_for(place, tmp_path):
    before = place / "sprites" / "val" / "red" / "00.png"
    words = ("--label", "red", "--box", "8,0,16,16", "--resize", "--feather", "0")
    gif = tmp_path / "rounds.gif"
    status = cli(
        "edit", "inpaint", place / "maskgit", before, *words,
        "--out", tmp_path / "after.png", "--pairs", tmp_path / "pairs.png", "--gif", gif,
    )  # fmt: skip
    assert status == 0 and gif.is_file() and (tmp_path / "pairs.png").is_file()
    after = open_image(tmp_path / "after.png")
    assert after.mode == "RGBA"
    own = open_image(before).resize((16, 16), Image.Resampling.LANCZOS)
    kept, wanted = (to_pixels(image, 4)[:, :, :8].int() for image in (after, own))
    assert (kept - wanted).abs().max() <= 2

"""What an imported model is good for: every sampler, edit and measure, over the golden files."""

import json
from base64 import b64decode

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit import EDITS, SAMPLERS, Pipeline, edit
from maskgit.config import DataConfig, parse
from maskgit.data.pixels import open_image
from maskgit.data.tokenization import tokenize_dataset
from maskgit.importing import IMPORTERS, import_weights
from maskgit.importing.importers import looks_like
from maskgit.importing.reading import read_tensors
from maskgit.serving import Studio
from maskgit.training.trainer import train
from tests.conftest import cli
from tests.importing.golden import SYSTEMS, checkpoint
from tests.importing.parity import imported
from vqgan.classifier import Classifier
from vqgan.published.titok import TiTok
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizers import load_tokenizer

GENERATORS = {
    "halton_maskgit": "halton",
    "valeoai_v1": "maskgit_v1",
    "maskgit_flax_transformer": "maskgit_flax",
    "maskbit_generator": "maskbit",
    "maskbit_bert": "maskbit",
    "titok_imagebert": "titok",
    "titok_uvit": "titok",
}
TOKENIZERS = {
    "llamagen_vq": "llamagen",
    "taming_vqgan": "taming",
    "maskgit_vqgan": "maskgit_vqgan",
    "ibq": "ibq",
    "open_magvit2": "open_magvit2",
    "maskgit_flax_tokenizer": "maskgit_flax",
    "maskbit_tokenizer": "maskbit",
    "maskbit_vqgan_plus": "maskbit",
    "titok_tokenizer": "titok",
    "titok_tokenizer_rgb": "titok",
}
CRITICAL = {"critic", "self_critic"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """system -> the folder of its golden file, imported where it is first asked for."""
    made = {}

    def get(system):
        if system not in made:
            out = tmp_path_factory.mktemp(system)
            importer = (GENERATORS | TOKENIZERS)[system]
            made[system] = imported(importer, system, out / "pipeline")
        return made[system]

    return get


def own_tokenizer(net):
    """An untrained tokenizer of a net's codes, for images of 4 x 4 pixels a cell."""
    torch.manual_seed(0)
    if net.grid[0] == 1:
        vit = {"dim": 16, "depth": 1, "heads": 2}
        shape = {"num_codes": net.grid[1], "codebook_size": net.codebook_size, "code_dim": 4}
        both = {"encoder": vit, "decoder": vit, "pixels": None}
        return TiTok(image_size=16, patch=8, decoder_patch=8, **shape, **both).eval()
    quantizer = {"name": "vq", "codebook_size": net.codebook_size, "codebook_dim": 4}
    if net.grid[1] > net.grid[0]:
        quantizer = {"name": "rvq", "codebook_size": net.codebook_size, "codebook_dim": 4}
        quantizer["codes_per_cell"] = net.grid[1] // net.grid[0]
    size = 4 * net.grid[0]
    small = {"widths": [8, 8], "num_blocks": 0, "latent_dim": 4, "patch_size": 2}
    return Tokenizer(image_size=size, channels=3, **small, quantizer=quantizer).eval()


def with_tokenizer(folder):
    pipeline = Pipeline.from_pretrained(folder)
    pipeline.own_tokenizer = own_tokenizer(pipeline.net)
    return pipeline


def guidance_of(pipeline):
    try:
        pipeline.net.null(torch.zeros(1, dtype=torch.int64))
    except ValueError:
        return 1.0
    return 2.0


def net_is_row(pipeline):
    """Whether codes have no places in images."""
    return pipeline.net.grid[0] == 1


def test_every_golden_file_has_its_importer():
    assert {*GENERATORS, *TOKENIZERS} == {*SYSTEMS}
    assert {*(GENERATORS | TOKENIZERS).values()} == {*IMPORTERS}


@pytest.mark.parametrize("system", GENERATORS | TOKENIZERS)
def test_a_file_looks_like_its_own_system_alone(system):
    importer = (GENERATORS | TOKENIZERS)[system]
    found = read_tensors(checkpoint(system))
    assert looks_like(found.tensors) == [importer]
    other = next(name for name in IMPORTERS if name != importer)
    with pytest.raises(ValueError, match=f"no file of {other}: it looks like {importer} "):
        import_weights(other, checkpoint(system), checkpoint(system).parent / "out")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in CRITICAL])
@pytest.mark.parametrize("system", GENERATORS)
def test_every_sampler_draws_with_it(folders, system, sampler):
    pipeline = with_tokenizer(folders(system))
    options = {"sampler": sampler, "steps": 3, "guidance": guidance_of(pipeline)}
    images = [np.asarray(image) for image in pipeline.generate([1, 2, 1], **options)]
    alone = np.asarray(pipeline.generate([2], seeds=[1], **options)[0])
    assert (alone == images[1]).all(), "image i depends on its label and seed only"
    assert len({image.tobytes() for image in images}) == 3
    *_, kept = pipeline.rounds([1, 2], refresh=2, **options)
    assert (kept < pipeline.net.codebook_size).all()


@pytest.mark.parametrize("what", EDITS)
@pytest.mark.parametrize("system", GENERATORS)
def test_every_edit_is_made_with_it(folders, system, what):
    pipeline = with_tokenizer(folders(system))
    size, rng = pipeline.tokenizer.image_size, np.random.default_rng(0)
    first, second = (
        Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)) for _ in range(2)
    )
    own = {
        "inpaint": {"box": (0, 0, 8, 8)},
        "outpaint": {"margins": (0, 0, 4, 4)},
        "interpolate": {"other": second, "num_frames": 3},
    }
    options = {"steps": 2, "guidance": guidance_of(pipeline)}
    if net_is_row(pipeline) and what in ("inpaint", "outpaint"):
        with pytest.raises(ValueError, match="codes have no places in the image"):
            edit(pipeline, what, first, label=1, **own[what], **options)
        return
    found = edit(pipeline, what, first, label=1, **own.get(what, {}), **options)
    assert all(np.asarray(image).shape[2] == 3 for image in found)


@pytest.mark.parametrize("system", GENERATORS)
def test_it_is_served(folders, system):
    """What the page of `maskgit serve` asks for: grids, and the edits that its codes allow."""
    pipeline = with_tokenizer(folders(system))
    studio, scale = Studio(pipeline, system), guidance_of(pipeline)
    about = studio.about()
    assert about["guided"] == (scale > 1) and about["places"] != net_is_row(pipeline)
    settings = {"steps": 2, "guidance": scale}
    asked = json.dumps({"labels": [1, 2], "per_label": 2, "seed": 3, **settings})
    *_, last = studio.draw(asked)
    images = pipeline.generate([1, 1, 2, 2], [3, 4, 5, 6], **settings)
    shown = [open_image(b64decode(address.split(",")[1])) for address in last["images"]]
    assert all(map(np.array_equal, shown, images))
    for name in ("grid.png", "strip.png", "fill.gif"):
        assert len(list(studio.file(name, asked))) == 1
    one = {"image": last["images"][0], "label": 2, "seed": 0, **settings}
    asked = {
        "variation": {"keep": 0.5}, "inpaint": {"box": [0, 0, 4, 4]}, "outpaint": {"margins": [0, 0, 4, 0]},
    }  # fmt: skip
    for what, own in asked.items():
        request = json.dumps({**one, "what": what, **own})
        if what == "variation" or about["places"]:
            assert list(studio.edit(request))[-1]["done"]
            continue
        with pytest.raises(ValueError, match="codes have no places in the image"):
            list(studio.edit(request))


@pytest.fixture
def run(folders, tmp_path, request):
    """A run of a pipeline with images to be measured on, and a judge beside it."""
    pipeline = with_tokenizer(folders(request.param))
    size, rng = pipeline.tokenizer.image_size, np.random.default_rng(0)
    names = [str(label) for label in range(pipeline.net.num_classes)]
    for split, count in (("train", 2), ("val", 3)):
        for label, name in enumerate(names):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
                Image.fromarray(picture + np.uint8(label)).save(folder / f"{i}.png")
    source = {"name": "folder", "root": str(tmp_path / "images")}
    pipeline.data = {"source": source, "image_size": size, "channels": 3}
    torch.manual_seed(0)
    judge = Classifier(channels=3, num_classes=len(names), width=8)
    judge.save(tmp_path / "classifier.safetensors", {"class_names": names, "accuracy": 0.5})
    pipeline.save_pretrained(tmp_path / "run" / "pipeline")
    return tmp_path / "run"


@pytest.mark.parametrize("run", GENERATORS, indirect=True)
def test_it_is_drawn_measured_compared_and_tuned(run):
    """Numbers of untrained models mean nothing: that there are some is what is tested."""
    judge = ("--features", "classifier", "--weights", run.parent / "classifier.safetensors")
    scale = guidance_of(Pipeline.from_pretrained(run / "pipeline"))
    drawing = ("--steps", 2, "--guidance", scale)
    views = ("--strip", run / "strip.png", "--gif", run / "fill.gif", "--confidence", run / "c.png")
    labels = ("--labels", "0-1", "--per-label", 2)
    assert cli("sample", run, "--out", run / "grid.png", *views, *labels, *drawing) == 0
    for name in ("grid.png", "strip.png", "fill.gif", "c.png"):
        with Image.open(run / name) as picture:
            assert picture.size[0] > 8
    assert cli("evaluate", run, *judge, "--count", 12, *drawing) == 0
    found = json.loads((run / "evaluation" / "results.json").read_text())
    assert np.isfinite(found["numbers"]["fid"]["value"])
    few = ("--samplers", "random", "--rounds", "2", "--count", 10)
    assert cli("compare", run, *judge, *few) == 0
    assert (run / "samplers" / "samplers.md").is_file()
    search = ("--sampler", "random", "--rounds", "2", "--trials", 1, "--count", 10)
    assert cli("tune", run, *judge, *search) == 0
    assert (run / "pipeline" / "presets" / "random-2.yaml").is_file()


@pytest.mark.parametrize("system", TOKENIZERS)
def test_a_second_stage_is_trained_on_it(folders, system, tmp_path):
    tokenizer = load_tokenizer(folders(system))
    size = tokenizer.downscale * 2 if tokenizer.grid[0] > 1 else tokenizer.image_size
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label, name in enumerate(("bag", "coat")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
                Image.fromarray(picture + np.uint8(label)).save(folder / f"{i}.png")
    data = {"source": {"name": "folder", "root": str(tmp_path / "images")}, "image_size": size}
    tokenize_dataset(
        folders(system), tmp_path / "codes", DataConfig(**data, channels=3), batch_size=4
    )
    config = {
        "task": "maskgit", "run": str(tmp_path / "run"), "tokenizer": str(folders(system)),
        "codes": str(tmp_path / "codes"), "sampler": {"name": "confidence", "steps": 2},
        "model": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8},
        "train": {"steps": 2, "batch_size": 4, "trackers": [], "precision": "fp32"},
    }  # fmt: skip
    train(parse(config, "second stage"))
    [image] = Pipeline.from_pretrained(tmp_path / "run").generate([1])
    assert image.size == (size, size)


@pytest.mark.parametrize("system", TOKENIZERS)
def test_its_reconstructions_are_measured_on_images_of_ones_own(folders, system, tmp_path, capsys):
    tokenizer = load_tokenizer(folders(system))
    size = tokenizer.downscale * 2 if tokenizer.grid[0] > 1 else tokenizer.image_size
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(4):
        picture = Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8))
        picture.save(tmp_path / "images" / f"{i}.png")
    out = ("--out", tmp_path / "out", "--metrics", "psnr,codes")
    assert cli("evaluate", folders(system), *out) == 2
    assert "evaluate --reference" in capsys.readouterr().err
    assert cli("evaluate", folders(system), *out, "--reference", tmp_path / "images") == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["numbers"]
    assert np.isfinite(found["psnr"]["value"])

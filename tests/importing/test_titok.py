"""TiTok's tokenizers and generators, and what a pipeline of codes without places does."""

import inspect
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from maskgit import Pipeline
from maskgit.config.loading import parse
from maskgit.config.sections import DataConfig
from maskgit.data.tokenization import tokenize_dataset
from maskgit.evaluation.image_sets import from_source
from maskgit.evaluation.tokenizer import measure_tokenizer
from maskgit.importing import IMPORTERS, Foreign, import_weights
from maskgit.importing.system import Sizes
from maskgit.model.backbones import BACKBONES, make_backbone
from maskgit.model.published.titok_bert import TiTokBert
from maskgit.model.published.uvit import UViT
from maskgit.training.trainer import train
from tests.conftest import blob, cli
from tests.importing.golden import checkpoint, golden
from tests.importing.parity import check_generator, check_tokenizer, imported, sizes_of
from vqgan.published.titok import TiTok
from vqgan.tokenizers import TOKENIZERS, load_tokenizer, make_tokenizer
from vqgan.weights import without_memory

TOKENIZER, GENERATOR = "titok_tokenizer_rgb", "titok_imagebert"
SIDE, CODES = 32, 6  # of the tokenizer


@pytest.mark.parametrize("system", ["titok_tokenizer", "titok_tokenizer_rgb"])
def test_codes_and_images_are_those_of_its_own_code(system, tmp_path):
    folder = imported("titok", system, tmp_path / "titok")
    tokenizer = check_tokenizer(folder, system, unit_range=True)
    assert tokenizer.codebook_size == 64 and tokenizer.grid == (1, tokenizer.num_codes)


@pytest.mark.parametrize("system", ["titok_imagebert", "titok_uvit"])
def test_logits_are_those_of_its_own_code(system, tmp_path):
    pipeline = check_generator(imported("titok", system, tmp_path / "titok"), system)
    assert pipeline.net.grid == (1, 8)
    with pytest.raises(ValueError, match="maskgit import titok"):
        pipeline.generate([1])


@pytest.mark.parametrize("system", ["titok_tokenizer", "titok_tokenizer_rgb"])
def test_the_config_of_a_folder_is_read_and_heads_alone_are_asked_for(system, tmp_path):
    """As the hub holds it: use_l2_norm is in its config.json, the heads of tiny ViTs nowhere."""
    sizes = sizes_of(system)
    with pytest.raises(ValueError, match=r'heads of its encoder.*\{"encoder": \{"heads": ...\}\}'):
        import_weights("titok", golden(system), tmp_path / "titok", sizes={"norm_groups": 4})
    heads = {half: {"heads": sizes[half]["heads"]} for half in ("encoder", "decoder")}
    out = import_weights(
        "titok", golden(system), tmp_path / "titok", sizes={**heads, "norm_groups": 4}
    )
    check_tokenizer(out, system, unit_range=True)


def bare(system, path, change):
    """A file of torch without a config, its tensors changed."""
    tensors = load_file(checkpoint(system))
    change(tensors)
    torch.save(tensors, path)
    return path


def test_a_bare_file_says_what_its_tensors_do_not(tmp_path):
    path = bare(TOKENIZER, tmp_path / "tokenizer_titok.bin", lambda tensors: None)
    sizes = sizes_of(TOKENIZER)
    del sizes["use_l2_norm"]
    with pytest.raises(ValueError, match='do not say use_l2_norm.*"use_l2_norm": ...'):
        import_weights("titok", path, tmp_path / "titok", sizes=sizes)
    path = bare(GENERATOR, tmp_path / "generator_titok.bin", lambda tensors: None)
    with pytest.raises(ValueError, match="num_attention_heads"):
        import_weights("titok", path, tmp_path / "titok")
    out = import_weights("titok", path, tmp_path / "titok", sizes={"num_attention_heads": 4})
    check_generator(out, GENERATOR)


def test_an_old_file_holds_positions_ids(tmp_path):
    def older(tensors):
        tensors["model.embeddings.position_ids"] = torch.arange(9)[None]

    path = bare(GENERATOR, tmp_path / "old.bin", older)
    check_generator(
        import_weights("titok", path, tmp_path / "titok", sizes=sizes_of(GENERATOR)), GENERATOR
    )


def guided_by_text(tensors):
    tensors["decoder.text_guidance_proj.weight"] = torch.zeros(48, 768)


def continuous(tensors):
    del tensors["quantize.embedding.weight"]
    tensors["encoder.conv_out.weight"] = tensors["encoder.conv_out.weight"].repeat(2, 1, 1, 1)


def first_stage(tensors):
    for name in [name for name in tensors if name.startswith("pixel_")]:
        del tensors[name]


def cut_short(tensors):
    del tensors["decoder.transformer.2.mlp.c_fc.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (guided_by_text, "TA-TiTok, whose decoder is given a text"),
        (continuous, 'no table of codes, as the "vae" tokenizers'),
        (first_stage, "first stage of training"),
        (cut_short, "lacks decoder.transformer.2.mlp.c_fc.weight"),
    ],
)
def test_other_models_of_the_project_are_refused_in_one_line(change, message, tmp_path):
    system = "titok_tokenizer"
    path = bare(system, tmp_path / "tokenizer_titok.bin", change)
    with pytest.raises(ValueError, match=message) as caught:
        import_weights("titok", path, tmp_path / "titok", sizes=sizes_of(system))
    assert "\n" not in str(caught.value)


LAYER = re.compile(r"\b(transformer|layer|in_blocks|out_blocks)\.(\d+)\.")
PIXELS = {8: 128, 16: 256, 32: 512, 12: 256, 40: 1024}


def grown(system, num_layers, sizes):
    """The tensors of a golden file with published sizes, without memory; sizes: what its are."""
    found = {}
    for name, tensor in load_file(checkpoint(system)).items():
        known = PIXELS if name.startswith("pixel_") else sizes
        large = torch.empty([known.get(n, n) for n in tensor.shape], device="meta")
        names = [name]
        if layer := LAYER.search(name):
            numbers = range(num_layers if layer[2] == "0" else 0)
            names = [name.replace(layer[0], f"{layer[1]}.{number}.") for number in numbers]
        found |= dict.fromkeys(names, large)
    return found


@pytest.mark.parametrize(
    ("system", "net", "own", "num_layers", "sizes"),
    [
        (
            "titok_tokenizer", TiTok, {},
            24,
            {48: 1024, 144: 3072, 192: 4096, 96: 2048, 7: 32, 17: 257, 64: 4096, 6: 12, 40: 1024},
        ),
        (
            "titok_imagebert", TiTokBert, {"codebook_size": 4096, "grid": [1, 32], "num_classes": 1000},
            24,
            {48: 768, 96: 3072, 64: 4096, 76: 5098, 9: 33},
        ),
        (
            "titok_uvit", UViT, {"codebook_size": 4096, "grid": [1, 128], "num_classes": 1000},
            10,
            {48: 1024, 144: 3072, 192: 4096, 96: 2048, 64: 4096, 76: 5098, 9: 129},
        ),
    ],
)  # fmt: skip
def test_published_sizes_need_nothing_else(system, net, own, num_layers, sizes):
    """L-32 and S-128, read from shapes alone, are the defaults of the nets."""
    tensors = grown(system, num_layers, sizes)
    found = IMPORTERS["titok"].read(Foreign(tensors, {}, None, "", None), Sizes({}))
    defaults = {
        name: option.default
        for name, option in inspect.signature(net).parameters.items()
        if option.default is not option.empty
    }
    name = next(name for name, entry in {**TOKENIZERS, **BACKBONES}.items() if entry is net)
    wanted = json.loads(json.dumps({"name": name, **defaults, **own}))
    assert json.loads(json.dumps(found.model)) == wanted
    make = make_tokenizer if found.kind == "tokenizer" else make_backbone
    with without_memory():
        shapes = {name: tensor.shape for name, tensor in make(found.model).state_dict().items()}
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == shapes


@pytest.fixture
def pair(tmp_path):
    """(tokenizer, pipeline): a generator cut to as many codes as the tokenizer has."""
    tokenizer = imported("titok", TOKENIZER, tmp_path / "tokenizer")
    cut, name = tmp_path / "foreign", "model.embeddings.position_embeddings.weight"
    cut.mkdir()
    tensors = load_file(checkpoint(GENERATOR))
    tensors[name] = tensors[name][: CODES + 1].clone()
    save_file(tensors, cut / "model.safetensors")
    (cut / "config.json").write_text((golden(GENERATOR) / "config.json").read_text())
    out = import_weights("titok", cut, tmp_path / "generator", tokenizer=tokenizer)
    return tokenizer, out


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(blob(1, np.random.default_rng(0), SIDE, 3)).save(path)
    return path


def test_a_generator_of_another_number_of_codes_is_refused(pair, tmp_path):
    with pytest.raises(ValueError, match="1x6 codes for an image, not 1x8"):
        imported("titok", GENERATOR, tmp_path / "other", tokenizer=pair[0])


def test_it_samples_and_shows_its_rounds(pair, tmp_path, capfd):
    folder = pair[1]
    out = [tmp_path / name for name in ("grid.png", "strip.png", "moving.gif", "heat.png")]
    options = ("--strip", out[1], "--gif", out[2], "--confidence", out[3])
    words = ("--labels", "1,3", "--out", out[0], "--steps", 3)
    assert cli("sample", folder, *words, *options) == 0, capfd.readouterr().err
    assert all(path.is_file() for path in out)
    pipeline = Pipeline.from_pretrained(folder)
    assert pipeline.settings(preset="paper").sampler["steps"] == 8
    images = [np.asarray(image) for image in pipeline.generate([1, 3, 1], preset="paper")]
    assert images[0].shape == (SIDE, SIDE, 3)
    [alone] = pipeline.generate([3], seeds=[1], preset="paper")
    assert (np.asarray(alone) == images[1]).all()
    assert cli("info", folder) == 0 and cli("info", pair[0] / "tokenizer.safetensors") == 0


@pytest.mark.parametrize("sampler", ["confidence", "halton", "random"])
def test_the_first_round_is_drawn_without_the_hidden_codes(sampler, pair):
    """No pixel is of one code alone: nothing is painted over."""
    from maskgit.pipeline.views import watched

    pipeline = Pipeline.from_pretrained(pair[1])
    images, confidence = watched(pipeline, [2], [0], sampler=sampler, steps=3)
    assert images.shape == (1, 3, 3, SIDE, SIDE) and confidence.shape == (1, 3, 1, CODES)
    assert (images[:, 0] != 0).float().mean() > 0.9
    assert not torch.equal(images[:, 0], images[:, -1])


@pytest.mark.parametrize(
    "place", [("inpaint", "--box", "0,0,8,8"), ("outpaint", "--margins", "8,0,0,0")]
)
def test_edits_of_a_part_are_refused_in_one_line(place, pair, picture, tmp_path, capfd):
    what, *options = place
    words = ("--label", 1, "--out", tmp_path / "out.png", *options)
    assert cli("edit", what, pair[1], picture, *words) == 2
    assert "this tokenizer's codes have no places in the image" in capfd.readouterr().err


def test_other_edits_work(pair, picture, tmp_path, capfd):
    strip = ("--strip", tmp_path / "strip.png", "--steps", 2)
    words = ("--label", 1, "--out", tmp_path / "out.png", *strip)
    assert cli("edit", "variation", pair[1], picture, *words) == 0, capfd.readouterr().err
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (SIDE, SIDE)
    words = ("--label", 1, "--other-label", 2, "--num-frames", 3, "--out", tmp_path / "frames")
    assert cli("edit", "interpolate", pair[1], picture, *words) == 0, capfd.readouterr().err
    assert len(list((tmp_path / "frames").iterdir())) == 3
    Image.new("RGB", (2 * SIDE, SIDE)).save(picture)
    assert (
        cli("edit", "variation", pair[1], picture, "--label", 1, "--out", tmp_path / "x.png") == 2
    )
    assert "images of 32x32 pixels only, not 32x64" in capfd.readouterr().err


@pytest.fixture
def pictures(tmp_path):
    """A data section: two classes of RGB pictures of the tokenizer's size."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("bag", "coat")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(blob(label, rng, SIDE, 3)).save(folder / f"{i}.png")
    source = {"name": "folder", "root": str(tmp_path / "images")}
    return {"source": source, "image_size": SIDE, "channels": 3}


def test_reconstructions_are_measured(pair, pictures):
    images = from_source(DataConfig.model_validate(pictures), "validation")
    tokenizer = load_tokenizer(pair[0])
    numbers, counts = measure_tokenizer(tokenizer, images, None, ("psnr", "codes"), 4)
    assert numbers["psnr"].value > 0 and counts.sum() == 6 * CODES


def test_a_second_stage_is_trained_on_it(pair, pictures, tmp_path):
    tokenize_dataset(pair[0], tmp_path / "codes", DataConfig.model_validate(pictures))
    config = {
        "task": "maskgit",
        "run": str(tmp_path / "run"),
        "tokenizer": str(pair[0]),
        "codes": str(tmp_path / "codes"),
        "model": {"dim": 16, "depth": 1, "heads": 2},
        "sampler": {"name": "halton", "steps": 3},
        "train": {
            "steps": 2, "batch_size": 4, "precision": "fp32", "trackers": [], "eval_every": 2,
            "preview_every": 2,
        },
    }  # fmt: skip
    train(parse(json.loads(json.dumps(config)), "titok"))
    pipeline = Pipeline.from_pretrained(tmp_path / "run")
    assert pipeline.net.grid == (1, CODES)
    assert pipeline.generate([1])[0].size == (SIDE, SIDE)

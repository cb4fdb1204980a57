"""MaskBit's tokenizers and generators."""

import pytest
import torch

from maskgit import Pipeline
from maskgit.importing.maskbit import SYSTEM, read
from maskgit.importing.reading import read_tensors
from maskgit.importing.system import Sizes
from tests.importing.golden import checkpoint, inputs, outputs
from tests.importing.parity import (
    assert_close,
    check_generator,
    check_tokenizer,
    imported,
    sizes_of,
)
from vqgan.tokenizers import load_tokenizer


def test_bits_and_images_are_those_of_its_own_code(tmp_path):
    folder = imported("maskbit", "maskbit_tokenizer", tmp_path / "tokenizer")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.codebook_size == 32 and tokenizer.codes_per_cell == 2
    given, wanted = inputs("maskbit_tokenizer"), outputs("maskbit_tokenizer")

    def cut(whole):
        """Codes of 10 bits -> the low 5 and the high 5 of each, side by side."""
        return torch.stack((whole % 32, whole // 32), -1).view(-1, 4, 8)

    assert torch.equal(tokenizer.encode(given["images"] * 2 - 1), cut(wanted["indices"]))
    raw = wanted["decoded"] * 2 - 1
    assert_close(tokenizer.decode(cut(given["codes"])), raw.clamp(-1, 1), scale=raw)


def test_codes_and_images_of_vqgan_plus_are_those_of_its_own_code(tmp_path):
    folder = imported("maskbit", "maskbit_vqgan_plus", tmp_path / "tokenizer")
    tokenizer = check_tokenizer(folder, "maskbit_vqgan_plus", unit_range=True)
    assert tokenizer.codebook_size == 96 and tokenizer.codes_per_cell == 1


@pytest.mark.parametrize("system", ["maskbit_generator", "maskbit_bert"])
def test_logits_are_those_of_its_own_code(tmp_path, system):
    folder = imported("maskbit", system, tmp_path / "generator")
    pipeline = check_generator(folder, system, cut=lambda logits: logits.flatten(1, 2))
    assert pipeline.net.grid == (4, 8) and pipeline.net.codes_per_cell == 2


def test_a_generator_is_sampled_with_its_tokenizer(tmp_path):
    tokenizer = imported("maskbit", "maskbit_tokenizer", tmp_path / "tokenizer")
    out = tmp_path / "generator"
    pipeline = Pipeline.from_pretrained(
        imported("maskbit", "maskbit_generator", out, tokenizer=tokenizer)
    )
    assert pipeline.presets["paper"].guidance.scale == 7.4
    (image,) = pipeline.generate([3], steps=4)
    assert image.size == (64, 64)
    with pytest.raises(ValueError, match="has 96 codes, the generator draws 32"):
        other = imported("maskbit", "maskbit_vqgan_plus", tmp_path / "other")
        imported("maskbit", "maskbit_generator", tmp_path / "wrong", tokenizer=other)


def other(system, change, **sizes):
    foreign = read_tensors(checkpoint(system))
    tensors = dict(foreign.tensors)
    change(tensors)
    assert SYSTEM.knows(tensors)
    return read(foreign._replace(tensors=tensors), Sizes(sizes_of(system) | sizes))


def test_the_older_name_of_the_first_map_is_read():
    def rename(tensors):
        for part in ("weight", "bias"):
            tensors[f"token_emb.{part}"] = tensors.pop(f"input_proj.{part}")

    found = other("maskbit_generator", rename)
    assert "codes.proj.weight" in found.tensors and "codes.proj.bias" in found.tensors


@pytest.mark.parametrize(
    ("bits", "rows", "groups", "codes"),
    [(10, 1024, 1, 1024), (10, 64, 2, 32), (14, 256, 2, 128), (18, 1024, 2, 512), (9, 24, 3, 8)],
)
def test_groups_of_bits_show_in_the_head(bits, rows, groups, codes):
    def resize(tensors):
        tensors["input_proj.weight"] = torch.zeros(48, bits)
        tensors["prediction_layer.weight"] = torch.zeros(rows, 48)
        tensors["prediction_layer.bias"] = torch.zeros(rows)

    model = other("maskbit_generator", resize).model
    assert (model["codes_per_cell"], model["codebook_size"]) == (groups, codes)
    assert model["grid"] == [4, 4 * groups]


def test_groups_that_do_not_show_are_asked_for():
    def resize(tensors, rows=8):
        tensors["input_proj.weight"] = torch.zeros(48, 4)
        tensors["prediction_layer.weight"] = torch.zeros(rows, 48)
        tensors["prediction_layer.bias"] = torch.zeros(rows)

    assert other("maskbit_generator", resize, codebook_splits=4).model["codebook_size"] == 2
    with pytest.raises(ValueError, match="do not say codebook_splits"):
        other("maskbit_generator", resize, codebook_splits=None)
    with pytest.raises(ValueError, match="head of 9 rows is of no equal groups of its 4 bits"):
        other("maskbit_generator", lambda tensors: resize(tensors, 9))


def test_norms_before_each_half_are_told_by_that_after_the_last():
    def add(tensors):
        tensors["norm_after_transformer.weight"] = torch.ones(48)
        tensors["norm_after_transformer.bias"] = torch.zeros(48)

    assert other("maskbit_generator", add).model["prenorm"]
    assert not other("maskbit_generator", lambda tensors: None).model["prenorm"]


def test_levels_from_the_finest_and_means_for_convolutions_are_read():
    """As MaskBit publishes MaskGIT's tokenizer."""

    def turn(tensors):
        for name in [name for name in tensors if "down_conv" in name]:
            del tensors[name]
        parts = {name: tensors.pop(name) for name in [*tensors] if name.startswith("decoder.up.")}
        for name, value in parts.items():
            level, rest = name.removeprefix("decoder.up.").split(".", 1)
            tensors[f"decoder.up.{4 - int(level)}.{rest}"] = value

    plain = other("maskbit_vqgan_plus", lambda tensors: None)
    found = other("maskbit_vqgan_plus", turn)
    assert found.model == plain.model | {"downsampling": "pool"}
    for name, value in found.tensors.items():
        assert torch.equal(value, plain.tensors[name])


def test_an_odd_number_of_bits_is_one_code():
    def cut(tensors):
        for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
            tensors[name] = tensors[name][:9]
        tensors["decoder.conv_in.weight"] = tensors["decoder.conv_in.weight"][:, :9]

    assert other("maskbit_tokenizer", cut).model["codes_per_cell"] == 1
    even = other("maskbit_tokenizer", lambda tensors: None, codebook_splits=1)
    assert even.model["codes_per_cell"] == 1

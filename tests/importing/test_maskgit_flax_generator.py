"""Generators of the official MaskGIT."""

import pytest
import torch

from maskgit import Pipeline
from maskgit.importing.maskgit_flax import SYSTEM
from maskgit.importing.maskgit_flax_generator import read
from maskgit.importing.reading import read_tensors
from maskgit.importing.system import Sizes
from tests.importing.golden import checkpoint
from tests.importing.parity import check_generator, imported
from tests.importing.published import of_shapes

GOLDEN = "maskgit_flax_transformer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return imported("maskgit_flax", GOLDEN, tmp_path_factory.mktemp("flax") / "generator")


def test_logits_are_those_of_its_own_code(folder):
    pipeline = check_generator(folder, GOLDEN, null=False, cut=lambda x: x[:, 1:, :64])
    assert pipeline.net.num_classes == 10 and pipeline.net.grid == (4, 4)


def test_it_knows_no_label_for_none(folder):
    pipeline = Pipeline.from_pretrained(folder)
    codes = torch.full((2, 4, 4), 64)
    for work in (
        lambda: pipeline.logits(codes),
        lambda: pipeline.logits(codes, [3, 10]),
        lambda: pipeline.net(codes, torch.tensor([3, 10])),
        lambda: [*pipeline.rounds([10])],
        lambda: [*pipeline.rounds([3], guidance=2.0)],
    ):
        with pytest.raises(ValueError, match="published without a label for none"):
            work()
    *_, found = pipeline.rounds([3, 4], preset="paper")
    assert found.shape == (2, 4, 4) and found.max() < 64
    assert pipeline.settings().guidance["scale"] == 1
    away = {"scale": 2.0}
    *_, led = pipeline.rounds([3, 4], negative=5, guidance=away)
    assert led.max() < 64, "a label to lead away from may be given"


def published(rows=2025, cells=256):
    tensors = read_tensors(checkpoint(GOLDEN)).tensors
    return of_shapes(
        {name: value.shape for name, value in tensors.items()}
        | {"Embed_0.word_embeddings.embedding": (rows, 48), "MlmLayer_0.mlm_bias.bias": (rows,)}
        | {"Embed_0.position_embeddings.embedding": (cells + 1, 48)}
    )


def test_the_sizes_of_published_files_need_not_be_given():
    for side in (16, 32):
        model = read(published(cells=side * side), Sizes({})).model
        assert (model["codebook_size"], model["num_classes"]) == (1024, 1000)
        assert model["grid"] == [side, side] and model["heads"] == 4


def test_other_sizes_are_asked_for():
    foreign = published(rows=75)
    with pytest.raises(ValueError, match="do not say codebook_size"):
        read(foreign, Sizes({}))
    assert read(foreign, Sizes({"num_class": 10})).model["codebook_size"] == 64


def test_names_may_keep_the_root_of_the_file():
    foreign = read_tensors(checkpoint(GOLDEN))
    rooted = {f"params.{name}": tensor for name, tensor in foreign.tensors.items()}
    assert SYSTEM.knows(rooted) and SYSTEM.knows(foreign.tensors)
    sizes = Sizes({"codebook_size": 64})
    plain = read(foreign, sizes).tensors
    for name, tensor in read(foreign._replace(tensors=rooted), sizes).tensors.items():
        assert torch.equal(tensor, plain[name])

"""valeoai's Maskgit-pytorch, version 1."""

import pytest
import torch

from maskgit.importing import import_weights
from maskgit.importing.maskgit_v1 import read
from maskgit.importing.system import Sizes
from tests.importing.golden import checkpoint
from tests.importing.parity import check_generator, imported, sizes_of
from tests.importing.published import of_shapes


def test_logits_are_those_of_its_own_code(tmp_path):
    folder = imported("maskgit_v1", "valeoai_v1", tmp_path / "v1")
    pipeline = check_generator(folder, "valeoai_v1", cut=lambda logits: logits[..., :64])
    assert pipeline.net.num_classes == 10 and pipeline.net.grid == (4, 4)


def published(dim, depth, cells, rows=2026):
    tensors = torch.load(checkpoint("valeoai_v1"), weights_only=True)["model_state_dict"]
    shapes = {name: [{48: dim}.get(n, n) for n in value.shape] for name, value in tensors.items()}
    for name in [*shapes]:
        if name.startswith("transformer.layers.0."):
            for number in range(depth):
                shapes[name.replace("s.0", f"s.{number}", 1)] = shapes[name]
    shapes |= {"tok_emb.weight": [rows, dim], "bias": [cells + 1, rows]}
    return of_shapes(shapes | {"pos_emb": [1, cells + 1, dim]})


def test_the_sizes_of_published_files_need_not_be_given():
    for dim, depth, side in [(768, 24, 16), (768, 24, 32), (1024, 32, 16), (1024, 48, 16)]:
        model = read(published(dim, depth, side * side), Sizes({})).model
        assert (model["codebook_size"], model["num_classes"]) == (1024, 1000)
        assert model["heads"] == 16 and model["grid"] == [side, side]
        assert (model["dim"], model["depth"]) == (dim, depth)


def test_other_sizes_are_asked_for_and_must_fit():
    foreign = published(768, 24, 16, rows=76)
    with pytest.raises(ValueError, match="do not say codebook_size"):
        read(foreign, Sizes({}))
    assert read(foreign, Sizes({"nclass": 10})).model["codebook_size"] == 64
    assert read(foreign, Sizes({"codebook_size": 64})).model["num_classes"] == 10
    with pytest.raises(ValueError, match="76 rows does not hold 64 codes, 2 others and 9 classes"):
        read(foreign, Sizes({"codebook_size": 64, "nclass": 9}))
    with pytest.raises(ValueError, match="do not say heads"):
        read(published(768, 3, 16), Sizes({}))
    with pytest.raises(ValueError, match=r"positions.* are 12, which is no square"):
        read(published(768, 24, 12), Sizes({}))


def test_heads_that_do_not_divide_are_refused(tmp_path):
    sizes = sizes_of("valeoai_v1") | {"heads": 5}
    with pytest.raises(ValueError, match="width of 48 does not divide into 5 heads"):
        import_weights("maskgit_v1", checkpoint("valeoai_v1"), tmp_path / "v1", sizes=sizes)

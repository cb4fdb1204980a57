"""A file that lacks a tensor, or has one of another shape, is refused in one line."""

from itertools import islice

import pytest

from maskgit.importing import IMPORTERS
from maskgit.importing.conversion import _fitting
from maskgit.importing.reading import read_tensors
from maskgit.importing.system import Sizes
from tests.importing.golden import checkpoint
from tests.importing.parity import sizes_of
from tests.importing.published import spoiled

FREE = ("class_emb.weight longer", "quantize.embedding.weight longer")
"""More classes or codes are no mistake."""
DERIVED = ("bits_to_indices", "quantize.codebook")


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("maskgit_v1", "valeoai_v1"),
        ("maskgit_flax", "maskgit_flax_transformer"),
        ("maskbit", "maskbit_generator"),
        ("maskbit", "maskbit_bert"),
        ("maskbit", "maskbit_tokenizer"),
        ("maskbit", "maskbit_vqgan_plus"),
    ],
)
def test_each_tensor_is_needed_in_its_shape(name, golden):
    foreign, sizes = read_tensors(checkpoint(golden)), Sizes(sizes_of(golden))
    system = IMPORTERS[name]
    step = 1 + len(foreign.tensors) // 40  # not all of many, which takes long
    for what, tensors in islice(spoiled(foreign.tensors), 0, None, step):
        if what in FREE or any(part in what for part in DERIVED) or not system.knows(tensors):
            continue
        with pytest.raises(ValueError) as caught:
            _fitting(system.read(foreign._replace(tensors=tensors), sizes))
        assert "\n" not in str(caught.value), what

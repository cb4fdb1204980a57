"""Halton-MaskGIT's generators."""

import pytest

from tests.importing.parity import check_generator, imported


def test_logits_are_those_of_its_own_code(tmp_path):
    folder = imported("halton", "halton_maskgit", tmp_path / "halton")
    pipeline = check_generator(folder, "halton_maskgit", cut=lambda logits: logits[..., :64])
    with pytest.raises(ValueError, match=r"maskgit import llamagen \S+vq_ds16_c2i\.pt"):
        pipeline.generate([1])

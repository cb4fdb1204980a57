"""VQGANs of taming-transformers."""

import pytest
import torch

from maskgit.importing import import_weights
from tests.importing.golden import checkpoint
from tests.importing.parity import check_tokenizer, imported, sizes_of


def test_codes_and_images_are_those_of_its_own_code(tmp_path):
    tokenizer = check_tokenizer(imported("taming", "taming_vqgan", tmp_path), "taming_vqgan")
    assert tokenizer.codebook_size == 128 and tokenizer.image_size == 64


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"quantize.embed.weight": (128, 10), "quantize.proj.weight": (128, 12, 1, 1)}, "Gumbel"),
        ({"quantize.used": (100,)}, "numbered anew"),
    ],
)
def test_other_quantisers_are_refused(tmp_path, extra, said):
    found = torch.load(checkpoint("taming_vqgan"), weights_only=True)["state_dict"]
    if said == "Gumbel":
        del found["quantize.embedding.weight"]
    torch.save(found | {name: torch.ones(shape) for name, shape in extra.items()}, tmp_path / "a")
    with pytest.raises(ValueError, match=f"it has .*{said}") as refused:
        import_weights("taming", tmp_path / "a", tmp_path / "out", sizes=sizes_of("taming_vqgan"))
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()

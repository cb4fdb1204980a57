"""The card beside imported weights."""

from tests.importing.golden import checkpoint
from tests.importing.parity import imported


def test_a_card_says_whence_under_which_licence_and_how_to_use_it(tmp_path):
    for importer, system, command in (
        ("llamagen", "llamagen_vq", "maskgit tokenize"),
        ("halton", "halton_maskgit", "maskgit import halton"),
    ):
        folder = imported(importer, system, tmp_path / importer)
        card = (folder / "README.md").read_text()
        assert "licence MIT" in card and checkpoint(system).name in card and command in card
        assert len([word for word in card.split("`") if len(word) == 64]) == 1, "its hash"
        assert str(tmp_path) not in card, "no path of whoever imported it"


def test_a_generator_alone_says_which_tokenizer_it_needs(tmp_path):
    card = (imported("halton", "halton_maskgit", tmp_path / "h") / "README.md").read_text()
    assert "maskgit import llamagen hub:FoundationVision/LlamaGen/vq_ds16_c2i.pt" in card

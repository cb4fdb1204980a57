import pytest

from maskgit.cli.own.looking import look, names_configs, source_of
from tests.conftest import cli


def test_what_can_be_named(image_folder, tmp_path):
    assert source_of(str(image_folder)) == {"name": "folder", "root": str(image_folder)}
    assert source_of("mnist5k") == "mnist5k"
    assert source_of("{name: openmoji, size: 32}") == {"name": "openmoji", "size": 32}
    assert source_of("x.parquet")["name"] == "huggingface"
    assert source_of("fashion_mnist/vqgan") == "fashion_mnist"
    with pytest.raises(ValueError, match="has no data section"):
        source_of("fashion_mnist/maskgit")
    with pytest.raises(FileNotFoundError, match="no folder no/where"):
        source_of("no/where")


def test_a_report_and_a_picture_are_written_side_by_side(image_folder, tmp_path, capsys):
    assert cli("inspect", image_folder, "--out", tmp_path / "data.md") == 0
    said = capsys.readouterr().out
    assert said == (tmp_path / "data.md").read_text() and "**32 images of 2 classes**" in said
    assert (tmp_path / "data.png").is_file() and "](data.png)" in said
    found, text = look(str(image_folder))
    assert found.num_images == 32 and "](data.png)" not in text


def test_wrong_words_are_one_line(tmp_path, capsys):
    assert cli("inspect", tmp_path / "nothing") == 2
    assert cli("inspect", "mnist5", "--out", tmp_path / "x.md") == 2
    assert cli("inspect", "mnist5k", "--out", tmp_path / "x.txt") == 2
    lines = capsys.readouterr().err.splitlines()
    assert "no folder" in lines[0] and "did you mean 'mnist5k'" in lines[1] and "a .md" in lines[2]


def test_a_folder_of_images_is_not_taken_for_configs_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names_configs("sprites") and names_configs("mnist") and not names_configs("nothing")
    (tmp_path / "sprites").mkdir()
    assert not names_configs("sprites")
    (tmp_path / "sprites" / "vqgan.yaml").touch()
    assert names_configs("sprites")

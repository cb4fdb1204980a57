from tests.conftest import cli


def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sprites").mkdir()
    assert cli("quickstart", "mnist", "--minutes", "3") == 2
    assert cli("quickstart", "sprites", "maskgit.train.steps=3") == 2
    assert cli("quickstart", "nothing/here") == 2
    assert cli("quickstart", "sprites", "--name", "../up") == 2
    lines = capsys.readouterr().err.splitlines()
    said = (
        "are for images",
        "to be edited there",
        "no folder nothing/here",
        "no name for a folder",
    )
    assert len(lines) == 4 and all(words in line for words, line in zip(said, lines, strict=True))

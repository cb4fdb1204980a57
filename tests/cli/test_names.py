from maskgit.cli.names import names


def test_the_text_is_kept_until_a_file_of_ours_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    texts = iter(["one", "two"])
    monkeypatch.setattr("maskgit.cli.overview.list_tables", lambda: next(texts))
    assert [names(), names()] == ["one", "one"]
    monkeypatch.setattr("maskgit.cli.names._fingerprint", lambda: "other")
    assert [names(), names()] == ["two", "two"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_no_matter(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("maskgit.cli.overview.list_tables", lambda: "text")
    assert names() == "text"

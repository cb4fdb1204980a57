import pytest

from maskgit.serving import page
from tests.conftest import cli


@pytest.fixture
def served(monkeypatch):
    """What would be served, and where."""
    found = []
    monkeypatch.setattr(page, "find_spec", lambda name: name)
    monkeypatch.setattr(page, "serve", lambda studio, port: found.append((studio, port)))
    return found


def test_it_serves_the_run_by_the_name_that_was_typed(run, served, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert cli("serve", "run", "--port", 81, "--images", 5) == 0
    [(studio, port)] = served
    assert port == 81 and studio.run == "run" and studio.limits.images == 5
    assert studio.pipeline.class_names == ("bag", "t-shirt", "coat")


def test_mistakes_are_one_line(run, served, capsys):
    assert cli("serve", run / "nowhere") == 2
    assert cli("serve", run, "--port", 99999) == 2
    assert cli("serve", run, "--images", 0) == 2
    assert not served and "Traceback" not in capsys.readouterr().err

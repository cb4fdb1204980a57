import json
import re
import socket

import pytest

from maskgit.serving import check_gradio, page
from maskgit.serving.page import FILES, PAGE, functions, index, listening
from tests.conftest import cli


def test_without_gradio_one_line_says_what_to_install(run, monkeypatch, capsys):
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    assert cli("serve", run) == 2
    said = capsys.readouterr().err
    assert said == "maskgit: serve needs gradio: pip install 'maskgit-torch[serve]'\n"
    monkeypatch.setattr(page, "find_spec", lambda name: name)
    check_gradio()


def test_it_listens_on_this_machine_alone():
    with listening(0) as at:
        host, port = at.getsockname()
        assert host == "127.0.0.1" and at.family == socket.AF_INET
        with pytest.raises(ValueError, match=f"port {port} cannot be had"):
            listening(port)


def test_the_page_holds_what_it_has_to_know_and_no_class_breaks_out(studio):
    studio.pipeline.class_names = ("</script><script>alert(1)</script>", "b", "c")
    studio.run = "<b>run</b>"
    text = index(studio)
    assert "<b>run" not in text and text.count("</script>") == 2
    about = json.loads(re.search(r'application/json">(.*?)</script>', text)[1])
    assert about["classes"][0].startswith("</script>")
    assert about["functions"] == list(functions(studio))


def test_nothing_comes_from_elsewhere():
    assert {path.name for path in PAGE.iterdir()} == {*FILES, "index.html"}
    for path in PAGE.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"'`)<>]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path
        assert len(path.read_text().splitlines()) <= 350


def test_functions_pass_texts(studio):
    asked = json.dumps({"labels": [0]})
    found = [json.loads(text) for text in functions(studio)["draw"](asked)]
    assert found[-1]["done"]

"""What the server lets in, how many it serves, and what it never tells."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
import torch

from maskgit.serving.page import DATA, JOIN
from tests.conftest import make_pipeline
from tests.serving.conftest import as_address, editing, mask, picture
from tests.serving.stories.conftest import serving

JSON = {"Content-Type": "application/json"}
SECRET = "a secret of the machine"


def asked(address, path, data=None, headers=None, method=None):
    """(status, body) of a request."""
    request = urllib.request.Request(address + path, data, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def called(address, number, *data, key=None):
    """What a function of the page says in the end: (whether it went well, its last message)."""
    key = key or f"key{time.monotonic_ns()}{threading.get_ident()}"
    body = {"data": data, "fn_index": number, "session_hash": key}
    status, answer = asked(address, JOIN, json.dumps(body).encode(), JSON)
    if status != 200:
        return status, answer.decode()
    stream = urllib.request.urlopen(f"{address}{DATA}?session_hash={key}", timeout=180)
    messages = [json.loads(line[5:]) for line in stream if line.startswith(b"data:")]
    last = next(one for one in messages if one["msg"] == "process_completed")
    return last["success"], messages


def draw(address, **values):
    return called(address, 0, json.dumps({"labels": [0], "per_label": 1, "seed": 0, **values}))


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret.txt").write_text(SECRET)
    return tmp_path / "secret.txt"


PATHS = [
    "/queue/gradio_api/file={path}", "/queue/file={path}", "/queue/gradio_api/file/{path}",
    "/..%2f..%2f..%2f..{path}", "/page/..%2f..%2f..{path}", "/queue/static/..%2f..%2f..{path}",
    "/queue/assets/%2e%2e/%2e%2e{path}", "/queue/gradio_api/proxy=http://127.0.0.1:{port}/x",
    "/queue/gradio_api/file=http://127.0.0.1:{port}/x", "/queue/custom_component/a/b/c/..%2f{path}",
    "/queue/gradio_api/upload_progress?upload_id=1", "/queue/config", "/queue/gradio_api/info", "/queue/",
    "/queue/gradio_api/startup-events", "/queue/monitoring", "/queue/gradio_api/vibe-code", "/docs", "/openapi.json",
]  # fmt: skip


@pytest.fixture
def elsewhere():
    """A port where nobody ever knocks."""
    with socket.create_server(("127.0.0.1", 0)) as at:
        at.settimeout(0.2)
        yield at.getsockname()[1]
        with pytest.raises(TimeoutError):
            at.accept()


@pytest.mark.parametrize("path", PATHS)
def test_no_path_reads_a_file_or_asks_another_server(address, secret, elsewhere, path):
    status, body = asked(address, path.format(path=secret, port=elsewhere))
    assert status == 404 and SECRET.encode() not in body


def file_data(path):
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "url": path, "orig_name": "x.png"}


def test_no_request_reads_a_file_or_asks_another_server(address, secret, elsewhere):
    names = [str(secret), f"file://{secret}", f"http://127.0.0.1:{elsewhere}/x.png"]
    one = json.loads(editing("variation", keep=0.5))
    for name in names:
        for value in (name, file_data(name)):
            for number, words in ((1, {**one, "image": value}), (4, {"image": value})):
                well, messages = called(address, number, json.dumps(words))
                assert well is False and SECRET not in json.dumps(messages)
                assert "the picture" in messages[-2]["output"]["error"]
            for number in range(5):  # in place of the texts that functions take
                well, messages = called(address, number, value)
                assert well is not True and SECRET not in json.dumps(messages)
    for kind in ("../../secret.txt", str(secret), "grid.png/../x"):
        assert called(address, 2, json.dumps({"labels": [0]}), kind)[0] is False


def test_uploads_are_not_taken(address):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../x"\r\n\r\nx\r\n--x--\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for path in ("/queue/gradio_api/upload", "/upload"):
        assert asked(address, path, body, form)[0] == 404
    assert asked(address, JOIN, body, form)[0] == 415


def test_other_sites_other_names_and_large_requests(address):
    body = json.dumps({"data": ["{}"], "fn_index": 0, "session_hash": "s"}).encode()
    assert asked(address, JOIN, body, {**JSON, "Origin": "http://evil.example"})[0] == 403
    assert asked(address, JOIN, body, {"Content-Type": "text/plain"})[0] == 415
    assert asked(address, "/", headers={"Host": "evil.example"})[0] == 421
    large = HTTPConnection(*address.removeprefix("http://").split(":"), timeout=60)
    large.putrequest("POST", JOIN)
    for name, value in {**JSON, "Content-Length": 19 * 2**20}.items():
        large.putheader(name, value)
    large.endheaders()
    assert large.getresponse().status == 413, "before any of it is read"
    large.close()
    assert asked(address, "/", method="DELETE")[0] == 405
    with pytest.raises(OSError):  # of this machine alone: its other addresses do not answer
        outside = socket.gethostbyname(socket.gethostname())
        if outside.startswith("127."):
            raise OSError("this machine has no other address")
        socket.create_connection((outside, int(address.rpartition(":")[2])), timeout=2).close()


BAD = [
    {"labels": [10**9]}, {"labels": "all"}, {"per_label": 10**6}, {"seed": -1}, {"steps": 10**9},
    {"guidance": "nan"}, {"sampler": "__import__('os')"}, {"preset": "../../x"}, {"temperature": -5},
    {"height": 100_000},
]  # fmt: skip


@pytest.mark.parametrize("values", BAD, ids=str)
def test_bad_values_get_one_line(address, values):
    well, messages = draw(address, **values)
    error = messages[-2]["output"]["error"]
    assert well is False and 5 < len(error) < 250 and "\n" not in error and "Traceback" not in error


def test_strange_calls_are_survived(address):
    for data in ([], [1], [None], ["[" * 100_000], ["{}", "{}", "{}"], {"a": 1}, "x"):
        body = json.dumps({"data": data, "fn_index": 0, "session_hash": "strange"}).encode()
        asked(address, JOIN, body, JSON)
    for number in (-1, 99, "draw", None):
        body = json.dumps({"data": ["{}"], "fn_index": number, "session_hash": "odd"}).encode()
        assert asked(address, JOIN, body, JSON)[0] != 200 or number == -1
    assert asked(address, JOIN, b"\xff\xfe{", JSON)[0] in (400, 422)
    assert draw(address)[0] is True


def test_thirty_at_once_are_served_or_told_to_wait(address):
    with ThreadPoolExecutor(30) as pool:
        found = list(pool.map(lambda seed: draw(address, seed=seed, labels=[0, 1, 2]), range(30)))
    assert [well for well, _ in found] == [True] * 30
    ranks = [m["rank"] for _, messages in found for m in messages if m["msg"] == "estimation"]
    assert max(ranks) >= 1, "they were told how many are before them"
    assert draw(address)[0] is True


def test_too_many_are_told_to_come_back_and_those_who_leave_are_forgotten(address):
    body = {"labels": list(range(10)), "per_label": 6, "steps": 64, "sampler": "remask"}
    slow = json.dumps({"seed": 0, **body})
    statuses = []
    for number in range(60):
        joined = {"data": [slow], "fn_index": 0, "session_hash": f"leaving{number}"}
        statuses.append(asked(address, JOIN, json.dumps(joined).encode(), JSON)[0])
    assert statuses.count(503) >= 10 and set(statuses) == {200, 503}
    for number in range(60):  # each looks in once, and leaves
        if statuses[number] == 200:
            stream = urllib.request.urlopen(
                f"{address}{DATA}?session_hash=leaving{number}", timeout=60
            )
            stream.readline()
            stream.close()
    deadline = time.monotonic() + 120
    while (found := draw(address))[0] == 503 and time.monotonic() < deadline:
        time.sleep(1)
    assert found[0] is True


def test_nothing_was_told_to_anyone(address, server_folder):
    """Of all stories before: the server's sockets led to this machine alone."""
    assert draw(address)[0] is True
    assert not (server_folder / "connected").exists()


def opens(visit, pipeline, tmp_path, *words):
    pipeline.save_pretrained(tmp_path / "run" / "pipeline")
    return serving(tmp_path / "run", tmp_path, *words)


def test_codes_without_places_are_varied_only(visit, tmp_path):
    from maskgit import Pipeline
    from maskgit.model.transformer import Transformer
    from maskgit.model.wrapper import NonAutoregressiveWrapper
    from vqgan.published.titok import TiTok

    torch.manual_seed(0)
    vit = {"dim": 16, "depth": 1, "heads": 2}
    shape = {"num_codes": 8, "codebook_size": 16, "code_dim": 4}
    tokenizer = TiTok(
        image_size=16, patch=8, decoder_patch=8, **shape, encoder=vit, decoder=vit, pixels=None
    )
    net = Transformer(
        codebook_size=16, grid=(1, 8), num_classes=1, dim=32, depth=1, heads=2, dim_head=16
    )
    row = Pipeline(NonAutoregressiveWrapper(net, mask_id=16), tokenizer.eval(), ("all of it",))
    with opens(visit, row, tmp_path) as address:
        page = visit(address).open()
        assert not page.page.is_visible("#classes"), "there is nothing to choose"
        page.edit()
        assert page.page.locator("#tools .choices span:visible").all_inner_texts() == ["Vary"]
        assert "codes have no places" in page.page.inner_text("#hint")
        page.go()
        page.page.wait_for_selector(".version")
        well, messages = called(address, 1, editing("inpaint", label=0, mask=as_address(mask())))
        assert well is False and "no places" in messages[-2]["output"]["error"]


def test_limits_are_the_commands(visit, tmp_path):
    with opens(visit, make_pipeline(), tmp_path, "--images", "4") as address:
        assert len(visit(address).open().tiles()) == 3, "one of each class at first"
        page = visit(address).open("?class=bag&n=4")
        assert len(page.tiles()) == 4
        page.page.click("#chips >> text=coat")
        page.page.click("#go")
        page.page.wait_for_selector("#status.wrong")
        assert "more than 4 pictures" in page.status()
        assert draw(address, per_label=5)[0] is False
        assert picture().size == (16, 16)

import asyncio

import pytest

from maskgit.serving import Door

GOOD = {"host": "127.0.0.1:7860", "content-type": "application/json", "content-length": "10"}


@pytest.fixture
def door():
    return Door(None, {"/": "GET", "/queue/join": "POST"}, 1000)


def refused(door, method="POST", path="/queue/join", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = door.refusal(method, path, {**GOOD, **named})
    return found and found[0]


def test_what_is_named_is_passed_on(door):
    assert refused(door) is None and refused(door, "GET", "/") is None
    assert refused(door, "HEAD", "/") is None
    assert refused(door, host="localhost:99", origin="http://localhost:99") is None
    assert refused(door, content_type="application/json; charset=utf-8") is None


@pytest.mark.parametrize(
    "path",
    [
        "/queue/gradio_api/file=/etc/passwd", "/queue/file=/etc/passwd", "/../../etc/passwd", "//etc/passwd",
        "/queue/gradio_api/proxy=http://127.0.0.1:1/", "/queue/gradio_api/upload", "/queue/config",
        "/page/../page.py", "/queue/gradio_api/call/draw", "/queue/join/", "/queue/gradio_api/vibe-edit/",
        "/docs", "/openapi.json", "/queue/assets/../../x", "/queue/static/img/logo.svg", "",
    ],
)  # fmt: skip
def test_no_other_path_is_there(door, path):
    assert refused(door, "GET", path) == refused(door, "POST", path) == 404


def test_only_this_machine_is_answered(door):
    for host in (
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "",
        "10.0.0.1:7860",
    ):
        assert refused(door, host=host) == 421
    assert refused(door, origin="http://evil.example") == 403
    assert refused(door, origin="null") == 403
    assert refused(door, origin="http://127.0.0.1:1234") == 403, "another server of this machine"


def test_requests_are_json_and_not_large(door):
    assert refused(door, content_type="text/plain") == 415, "as a form of another site sends it"
    assert refused(door, content_length="1001") == 413
    assert refused(door, content_length="") == refused(door, content_length="-1") == 411
    assert refused(door, transfer_encoding="chunked") == 411, "it is not as long as it says"
    assert refused(door, "PUT") == refused(door, "POST", "/") == 405


def asked(door, scope):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(door(scope, None, send))
    return sent


def test_every_answer_forbids_what_comes_from_elsewhere():
    async def app(scope, receive, send):
        own = [(b"content-security-policy", b"none at all"), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": own})

    door = Door(app, {"/": "GET"}, 10)
    headers = [(b"host", b"localhost")]
    for path, status in (("/", 200), ("/else", 404)):
        first, *_ = asked(door, {"type": "http", "method": "GET", "path": path, "headers": headers})
        named = dict(first["headers"])
        assert first["status"] == status and named[b"x-content-type-options"] == b"nosniff"
        assert b"default-src 'none'" in named[b"content-security-policy"]
    assert asked(door, {"type": "websocket", "path": "/", "headers": headers})[0]["code"] == 1008

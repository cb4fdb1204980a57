"""A small server on this machine that speaks the file protocol of the Hugging Face hub."""

import hashlib
import json
import re
import threading
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Repository:
    """Files by their paths; token: who may read it; gated: whether it asks for terms, or hides."""

    files: dict
    token: str | None = None
    gated: bool = False
    revisions: tuple = ("main", "v1", COMMIT)
    private: bool = False
    pushes: int = 0

    @property
    def commit(self):
        return COMMIT if not self.pushes else f"c0ffee{self.pushes:034}"


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    repositories: dict
    url: str = ""
    breaks: int = 0
    """How many of the next downloads end half way."""
    broken: int = 0
    """The status of every answer, as of a hub that is down; 0: it works."""
    writer: str = "writer"
    """The token that may push."""
    full: int = 0
    """The status of every answer to a large file that is sent; 0: it is taken."""
    stored: dict = field(default_factory=dict)
    """Large files, by their SHA-256, as they arrive."""
    asked: list = field(default_factory=list)
    """(method, path, range, token) of each request."""


class Handler(BaseHTTPRequestHandler):
    """Resolves files (HEAD, GET, ranges) and tells what a repository holds."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Nothing to the terminal."""

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def do_POST(self):
        self.take()

    def do_PUT(self):
        self.take()

    def take(self):
        """Something of a push."""
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((self.command, path, None, token))
        if self.hub.broken:
            return self.refuse(self.hub.broken)
        if path.startswith("/lfs/") and self.hub.full:
            return self.refuse(self.hub.full)
        if path.startswith("/lfs/"):
            if self.command == "PUT":
                self.hub.stored[path.removeprefix("/lfs/")] = content
            return self.say({})
        if path == "/api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        if token != self.hub.writer:
            return self.refuse(401 if token is None else 403)
        if path == "/api/repos/create":
            return self.create(json.loads(content))
        name, verb = re.fullmatch(
            r"/(?:api/models/)?([^/]+/[^/]+?)(?:\.git)?/(\w+)/.*", path
        ).groups()
        answer = {"preupload": self.modes, "info": self.actions, "commit": self.commit}[verb]
        return answer(name, self.hub.repositories[name], content)

    def create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self.say({"url": f"{self.hub.url}/{name}"}, 409)
        private = asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(
            {}, token=self.hub.writer if private else None, private=private
        )
        return self.say({"url": f"{self.hub.url}/{name}"})

    def modes(self, name, repository, content):
        """Weights are large, the rest is not."""
        files = [
            {"path": file["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
            for file in json.loads(content)["files"]
        ]  # fmt: skip
        return self.say({"files": files})

    def actions(self, name, repository, content):
        """Where each large file goes that is not there yet."""
        objects = json.loads(content)["objects"]
        for entry in objects:
            if entry["oid"] not in self.hub.stored:
                href = {"href": f"{self.hub.url}/lfs/{entry['oid']}"}
                entry["actions"] = {"upload": href, "verify": href}
        return self.say(
            {"objects": objects, "transfer": "basic"}, kind="application/vnd.git-lfs+json"
        )

    def commit(self, name, repository, content):
        for row in map(json.loads, content.splitlines()):
            value = row["value"]
            if row["key"] == "file":
                repository.files[value["path"]] = b64decode(value["content"])
            elif row["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.stored[value["oid"]]
            elif row["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.pushes += 1
        repository.revisions = (*repository.revisions, repository.commit)
        return self.say(
            {
                "commitUrl": f"{self.hub.url}/{name}/commit/{repository.commit}",
                "commitOid": repository.commit,
            }
        )

    def say(self, value, status=200, kind="application/json"):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body):
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append((self.command, path, self.headers.get("Range"), token))
        if self.hub.broken:
            return self.refuse(self.hub.broken)
        asked_for = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)(.*)", path)
        repository = asked_for and self.hub.repositories.get(asked_for[1])
        if not repository:
            return self.refuse(404, "RepoNotFound")
        if token == "expired":
            return self.refuse(401, message="Invalid credentials in Authorization header")
        if repository.token not in (None, token):
            return self.refuse(401, "GatedRepo" if repository.gated else "RepoNotFound")
        if path.startswith("/api/models"):
            return self.tell(asked_for[1], repository, asked_for[2])
        _, _, revision, file = asked_for[2].split("/", 3)
        if revision not in repository.revisions:
            return self.refuse(404, "RevisionNotFound")
        if file not in repository.files:
            return self.refuse(404, "EntryNotFound")
        return self.send(repository.files[file], body, repository.commit)

    def refuse(self, status, code=None, message=None):
        self.send_response(status)
        for key, value in (("X-Error-Code", code), ("X-Error-Message", message)):
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def tell(self, name, repository, rest):
        """What a repository holds."""
        if rest.startswith("/tree/"):
            files = repository.files.items()
            rows = [{"type": "file", "path": p, "size": len(d), "oid": "0"} for p, d in files]
            return self.say(rows)
        revision = rest.removeprefix("/revision/") or "main"
        if revision not in repository.revisions:
            return self.refuse(404, "RevisionNotFound")
        siblings = [{"rfilename": file} for file in repository.files]
        return self.say({"id": name, "sha": repository.commit, "siblings": siblings})

    def send(self, data, body, commit):
        """A file, or the rest of it."""
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body and self.hub.breaks:
            self.hub.breaks -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(data[start:])


@contextmanager
def serving(repositories):
    """A Hub on a free port of this machine."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

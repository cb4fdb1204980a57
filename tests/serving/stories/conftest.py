"""A server as `maskgit serve` starts it, and a Chromium that visits it; `make page` runs these."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from maskgit.config.presets import Preset
from tests.conftest import make_pipeline, repo

NAMES = (
    "bag",
    "t-shirt",
    "ankle boot",
    "coat",
    "a & <b>",
    "7",
    "sandal",
    "shirt",
    "dress",
    "sneaker",
)
DESKTOP, TELEPHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SPY = """
import os, socket
real = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        open(os.environ["SPY"], "a").write(f"{address}\\n")
    return real(self, address)
socket.socket.connect = connect
"""  # fmt: skip


def chromium():
    for found in filter(None, map(shutil.which, ("chromium", "chromium-browser"))):
        if not subprocess.run([found, "--version"], capture_output=True).returncode:  # no stub
            return found
    raise AssertionError("no Chromium: apt-get install chromium")


@contextmanager
def interruptible():
    """What is started here knows Ctrl-C, also where this process itself stands in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def pipeline():
    found = make_pipeline(class_names=NAMES)
    found.presets = {"quick": Preset(sampler={"name": "random", "steps": 2})}
    return found


@contextmanager
def serving(folder, tmp, *words):
    """The address of a server of a pipeline's run, for a while; it ends by Ctrl-C within seconds."""
    (tmp / "sitecustomize.py").write_text(SPY)
    environment = {**os.environ, "PYTHONPATH": f"{tmp}:{repo()}", "SPY": str(tmp / "connected")}
    command = [sys.executable, "-m", "maskgit", "serve", str(folder), "--port", "0", *words]
    with interruptible():
        process = subprocess.Popen(
            command, cwd=repo(), env=environment, stdout=subprocess.PIPE, text=True
        )
    try:
        line = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127.0.0.1:\d+", line), line
        yield line
        assert process.poll() is None, "it still answers"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def run(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pipeline.save_pretrained(folder / "pipeline")
    return folder


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def address(run, server_folder):
    with serving(run, server_folder) as found:
        yield found


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright  # which is not in every environment

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield found
        found.close()


class Visit:
    """A page as a visitor sees it; whatever goes wrong in it is kept in `wrong`."""

    def __init__(self, browser, address, **options):
        self.address, self.wrong, self.asked = address, [], []
        options = {"viewport": DESKTOP, "accept_downloads": True, **options}
        self.context = browser.new_context(**options)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda m: m.type == "error" and self.wrong.append(m.text))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, query="", drawn=True):
        self.page.goto(self.address + "/" + query)
        if drawn:
            self.drawn()
        return self

    def drawn(self):
        """Wait until it is drawn."""
        self.page.wait_for_selector("body:not(.busy)")
        self.page.wait_for_selector("#away:not([hidden])")
        return self

    def go(self):
        self.page.click("#go")
        return self.drawn()

    def status(self):
        return self.page.inner_text("#status")

    def tiles(self, sheet="a"):
        """(alt, address) of every picture of a grid."""
        found = self.page.query_selector_all(f"#sheet-{sheet} .tile img")
        return [(one.get_attribute("alt"), one.get_attribute("src")) for one in found]

    def edit(self, number=0):
        """Take a drawn picture to the easel."""
        self.page.click(f"#sheet-a .tile >> nth={number}")
        self.page.wait_for_selector("#canvas:visible")
        return self

    def tool(self, name):
        self.page.click(f"#tools .choices span:text-is('{name}')")
        return self

    def canvas(self):
        """The pixels of the easel's canvas, and its size."""
        return self.page.evaluate("document.querySelector('#canvas').toDataURL()")

    def stroke(self, *points):
        """Press, move and let go, at shares of the canvas."""
        box = self.page.locator("#canvas").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()
        return self

    def download(self, selector):
        with self.page.expect_download() as found:
            self.page.click(selector)
        return found.value


@pytest.fixture
def visit(browser, address):
    """Opens visits; at the end none of their pages had an error or left this machine."""
    visits = []

    def new(to=address, **options):
        visits.append(Visit(browser, to, **options))
        return visits[-1]

    yield new
    for one in visits:
        one.context.close()
        assert one.wrong == []
        foreign = [url for url in one.asked if not url.startswith((one.address, "data:", "blob:"))]
        assert foreign == []

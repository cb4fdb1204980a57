"""The picture of the page on its sign: `make screenshot RUN=fashion`."""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.conftest import repo
from tests.serving.stories.conftest import DESKTOP, Visit, chromium, serving


def take(run, out, query=""):
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(run, Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = Visit(browser, address, viewport=DESKTOP, color_scheme="light").open(query)
        page.page.locator('#chips img:not([src^="data:"])').first.wait_for(state="detached")
        page.page.screenshot(path=out)
        browser.close()
    print(out)


if __name__ == "__main__":
    take(sys.argv[1], repo() / "maskgit" / "serving" / "page.png")

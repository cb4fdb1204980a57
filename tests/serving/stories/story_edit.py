"""The easel: brush, box, edges, variations, files of one's own; with the mouse, a finger, and keys."""

import numpy as np
import pytest
from PIL import Image

from maskgit import edit
from tests.serving.conftest import as_image
from tests.serving.stories.conftest import TELEPHONE


def result(page):
    """The last version of the picture on the easel."""
    page.drawn()
    page.page.wait_for_selector(".version")
    return np.asarray(as_image(page.page.get_attribute(".version:last-child img", "src")))


def opened(visit, query="?class=bag&class=coat&n=2&seed=5", **options):
    page = visit(**options).open(query)
    before = np.asarray(as_image(page.tiles()[0][1]))
    return page.edit(), before


def test_brush_over_a_part_and_fill_it(visit, pipeline):
    page, before = opened(visit)
    clean = page.canvas()
    page.stroke((0.1, 0.1), (0.4, 0.1), (0.2, 0.3))
    assert page.canvas() != clean, "what is painted is seen"
    assert "cells painted" in page.page.get_attribute("#canvas", "aria-label")
    page.go()
    after = result(page)
    assert np.array_equal(after[8:], before[8:]) and np.array_equal(after[:, 8:], before[:, 8:])
    assert not np.array_equal(after, before)
    mask = page.download("[data-own=mask]").path()
    [own] = edit(
        pipeline, "inpaint", Image.fromarray(before), label=0, mask=Image.open(mask), seed=5
    )
    assert np.array_equal(after, own)
    assert np.array_equal(np.asarray(Image.open(page.download("[data-own=before]").path())), before)


def test_nothing_painted_is_said(visit):
    page, _ = opened(visit)
    page.page.click("#go")
    page.page.wait_for_selector("#status.wrong")
    assert "Brush over" in page.status()
    page.stroke((0.5, 0.5), (0.6, 0.6))
    page.page.click("#clear")
    page.page.click("#go")
    page.page.wait_for_selector("#status.wrong")


def test_swap_the_class_in_a_box(visit, pipeline):
    page, before = opened(visit)
    page.tool("Box").stroke((0.3, 0.3), (0.7, 0.7))
    page.page.select_option("#as", label="sandal")
    page.go()
    [own] = edit(
        pipeline, "inpaint", Image.fromarray(before), label="sandal", box=(4, 4, 12, 12), seed=5
    )
    assert np.array_equal(result(page), own)
    assert "--box 4,4,12,12" in page.page.inner_text("#command")
    assert "--label sandal" in page.page.inner_text("#command")


def test_extend_an_edge_and_again(visit, pipeline):
    page, before = opened(visit)
    page.tool("Extend")
    page.go()
    [own] = edit(
        pipeline, "outpaint", Image.fromarray(before), label="bag", margins=(0, 0, 8, 0), seed=5
    )
    assert np.array_equal(result(page), own) and own.size == (24, 16)
    page.page.fill("#right", "0")
    page.page.fill("#bottom", "1")
    page.go()
    again = result(page)
    assert again.shape == (20, 24) and np.array_equal(again[:16], own)
    page.page.fill("#bottom", "40")
    page.page.click("#go")
    page.page.wait_for_selector("#status.wrong")
    assert "too large" in page.status()


def test_vary_undo_and_go_back(visit, pipeline):
    page, before = opened(visit)
    page.tool("Vary")
    page.page.fill("#keep", "25")
    page.go()
    [own] = edit(pipeline, "variation", Image.fromarray(before), label="bag", keep=0.25, seed=5)
    first = result(page)
    assert np.array_equal(first, own)
    page.page.click("#dice")
    page.go()
    assert page.page.locator(".version").count() == 3
    page.page.click("#undo")
    page.page.locator(".version").nth(2).wait_for(state="detached")
    assert page.page.is_hidden("#away"), "the last edit is not what is on the easel"
    undone = page.page.get_attribute(".version:last-child img", "src")
    assert np.array_equal(as_image(undone), first)
    page.page.click(".version >> nth=0")
    page.page.locator(".version").first.wait_for(state="detached")
    assert page.page.is_disabled("#undo")


def test_the_edit_is_seen_round_by_round_and_taken_away(visit):
    page, _ = opened(visit)
    page.tool("Vary")
    page.page.evaluate(
        """() => { window.said = []; new MutationObserver(() => window.said.push(document.querySelector('#status').textContent))
          .observe(document.querySelector('#status'), { childList: true }); }"""
    )
    page.go()
    assert [line for line in page.page.evaluate("window.said") if line.startswith("round")] == [
        f"round {number}" for number in range(1, 5)
    ]
    names = {"grid.png": "edited.png", "strip.png": "strip.png", "fill.gif": "fill.gif"}
    for kind, name in names.items():
        got = page.download(f"[data-file='{kind}']")
        assert got.suggested_filename == name
        with Image.open(got.path()) as image:
            assert getattr(image, "n_frames", 1) == (5 if name == "fill.gif" else 1)


def test_by_keyboard(visit):
    page, before = opened(visit)
    page.page.focus("#canvas")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", " ", "ArrowDown", " "):
        page.page.keyboard.press(key)
    assert "2 cells painted" in page.page.get_attribute("#canvas", "aria-label")
    page.page.keyboard.press("Control+Enter")
    after = result(page)
    changed = np.argwhere(after != before)
    assert changed[:, 0].min() >= 4 and changed[:, 0].max() < 12
    assert changed[:, 1].min() >= 4 and changed[:, 1].max() < 8
    page.tool("Box")
    page.page.focus("#canvas")
    for key in ("ArrowRight", " ", "ArrowRight", "ArrowDown", " "):
        page.page.keyboard.press(key)
    page.go()
    assert "--box 0,0,8,8" in page.page.inner_text("#command")


def test_with_a_finger(visit):
    page, before = opened(visit, viewport=TELEPHONE, has_touch=True, is_mobile=True)
    box = page.page.locator("#canvas").bounding_box()
    page.page.touchscreen.tap(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
    page.page.tap("#go")
    after = result(page)
    assert np.array_equal(after[:8], before[:8]) and not np.array_equal(after, before)


def test_a_file_of_ones_own(visit, tmp_path, pipeline):
    photo = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    page = visit().open("?view=edit", drawn=False)
    assert page.page.is_visible("#no-picture")
    page.page.set_input_files("#file", tmp_path / "photo.jpg")
    page.page.wait_for_selector("#canvas:visible")
    assert "photo.jpg" in page.page.get_attribute("#canvas", "aria-label")
    page.tool("Vary")
    page.page.select_option("#as", label="dress")
    page.go()
    assert result(page).shape == (16, 16) and "--label dress" in page.page.inner_text("#command")


@pytest.mark.parametrize("kind", ["text", "cut", "huge", "svg"])
def test_a_file_that_cannot_be_edited_is_said(visit, tmp_path, kind):
    data = {
        "text": b"no picture", "huge": b"\0" * (7 * 2**20), "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "cut": b"\x89PNG\r\n\x1a\n" + b"\0" * 30,
    }  # fmt: skip
    (tmp_path / f"{kind}.png").write_bytes(data[kind])
    page = visit().open("?view=edit", drawn=False)
    page.page.set_input_files("#file", tmp_path / f"{kind}.png")
    page.page.wait_for_selector("#status.wrong")
    assert page.status() in (
        "the picture is no picture that can be read",
        "The file is larger than 6 MB",
    )

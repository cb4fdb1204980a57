"""Drawing, comparing, taking away: by clicks and keys, in a real browser."""

import re
import shlex
import subprocess
import sys
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests.serving.conftest import as_image
from tests.serving.stories.conftest import NAMES, TELEPHONE


def pixels(address):
    return np.asarray(as_image(address))


def is_drawn(pipeline, tiles, labels, seeds, **options):
    """Whether pictures are to the last bit what the library draws."""
    found = pipeline.generate(labels, seeds, **options)
    return len(tiles) == len(found) and all(
        np.array_equal(pixels(address), one) for (_, address), one in zip(tiles, found, strict=True)
    )


def test_the_first_thing_seen_is_pictures(visit, pipeline):
    page = visit().open()
    assert is_drawn(
        pipeline, page.tiles(), [label for label in range(5) for _ in range(4)], range(20)
    )
    assert page.tiles()[4][0] == "t-shirt, seed 4"
    assert "10 classes · 16 × 16 pixels" in page.page.inner_text("#about")


def test_classes_by_name_with_thumbnails(visit, pipeline):
    page = visit().open()
    page.page.locator('#chips img:not([src^="data:"])').first.wait_for(state="detached")
    page.page.click("#none")
    page.page.fill("#find", "BOOT")
    page.page.click("#chips >> text=ankle boot")
    page.page.fill("#find", "nothing like it")
    assert page.page.inner_text("#more") == "No class is called so"
    page.page.fill("#find", "")
    page.page.click("#chips >> text=a & <b>")
    page.page.fill("#per-label", "3")
    page.page.fill("#seed", "40")
    page.go()
    assert is_drawn(pipeline, page.tiles(), [2, 2, 2, 4, 4, 4], range(40, 46))
    assert page.page.locator("#sheet-a h2").all_inner_texts() == ["ankle boot", "a & <b>"]
    page.page.click("#none")
    page.page.click("#go")
    assert page.status() == "Choose a class first"


def test_the_grid_fills_round_by_round(visit):
    page = visit().open("?class=coat&n=2&seed=1&steps=8")
    page.page.evaluate(
        """() => {
          window.seen = { said: [], shown: new Set() };
          new MutationObserver(() => window.seen.said.push(document.querySelector('#status').textContent))
            .observe(document.querySelector('#status'), { childList: true });
          new MutationObserver((all) => all.forEach((one) => window.seen.shown.add(one.target.src)))
            .observe(document.querySelector('#sheet-a'), { subtree: true, attributes: true, attributeFilter: ['src'] });
        }"""
    )
    page.go()
    said, shown = page.page.evaluate("[window.seen.said, [...window.seen.shown]]")
    assert [line for line in said if line.startswith("round")] == [
        f"round {n} of 8" for n in range(1, 9)
    ]
    assert len(shown) >= 3, "two pictures, and a round before; a slow machine shows few rounds"
    grey = [(pixels(address) == 128).mean() for address in shown]
    assert max(grey) > 0.5 and min(grey) < 0.1


def test_sampler_rounds_guidance_and_temperature(visit, pipeline):
    page = visit().open("?class=bag&n=2&seed=3")
    page.page.select_option(".settings[data-side=a] [data-set=sampler]", "halton")
    for key, value in (("steps", "5"), ("guidance", "2.5"), ("temperature", "0.5")):
        page.page.fill(f".settings[data-side=a] [data-set={key}]", value)
    page.go()
    settings = {"sampler": "halton", "steps": 5, "guidance": 2.5, "temperature": 0.5}
    assert is_drawn(pipeline, page.tiles(), [0, 0], [3, 4], **settings)
    assert "halton · 5 rounds · guidance 2.5" in page.status()
    page.page.click(".settings[data-side=a] .reset")
    page.go()
    assert is_drawn(pipeline, page.tiles(), [0, 0], [3, 4])


def test_a_preset(visit, pipeline):
    page = visit().open("?class=bag&n=1")
    page.page.select_option(".settings[data-side=a] [data-set=preset]", "quick")
    page.go()
    assert is_drawn(pipeline, page.tiles(), [0], [0], preset="quick")
    assert "--preset quick" in page.page.inner_text("#command")


def test_two_settings_side_by_side(visit, pipeline):
    page = visit().open("?class=bag&class=coat&n=2")
    page.page.click("#tab-compare")
    page.page.fill(".settings[data-side=b] [data-set=steps]", "2")
    page.page.fill(".settings[data-side=b] [data-set=guidance]", "3")
    page.page.click("#go")
    page.page.wait_for_selector("#sheet-b .tile:not(.waiting)")
    page.drawn()
    assert is_drawn(pipeline, page.tiles("a"), [0, 0, 3, 3], range(4))
    assert is_drawn(pipeline, page.tiles("b"), [0, 0, 3, 3], range(4), steps=2, guidance=3.0)
    page.page.click("#which [data-side=b]")
    assert "--guidance 3" in page.page.inner_text("#command")
    page.page.click("#which [data-side=a]")
    assert "--guidance" not in page.page.inner_text("#command")


def test_downloads_are_what_the_command_makes(visit, run, tmp_path):
    page = visit().open(f"?class={quote('a & <b>')}&class=7&n=2&seed=9&steps=3&guidance=2")
    for name in ("grid.png", "strip.png", "fill.gif"):
        got = page.download(f"[data-file='{name}']")
        assert got.suggested_filename == name
        got.save_as(tmp_path / f"mine-{name}")
    command = shlex.split(page.page.inner_text("#command"))
    assert command[:2] == ["maskgit", "sample"] and str(run) in command
    subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, check=True, env=None, timeout=300
    )
    for name in ("grid.png", "strip.png", "fill.gif"):
        with Image.open(tmp_path / name) as its, Image.open(tmp_path / f"mine-{name}") as mine:
            assert its.size == mine.size and getattr(its, "n_frames", 1) == getattr(
                mine, "n_frames", 1
            )
            for frame in range(getattr(its, "n_frames", 1)):
                its.seek(frame)
                mine.seek(frame)
                assert np.array_equal(its.convert("RGB"), mine.convert("RGB"))
    script = page.page.inner_text("#python")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=300)
    for seed, (_, address) in zip(range(9, 13), page.tiles(), strict=True):
        assert np.array_equal(pixels(address), Image.open(tmp_path / f"{seed}.png"))


def test_copying(visit):
    page = visit().open("?class=bag&n=1&seed=5")
    for what in ("command", "python"):
        page.page.click(f"[data-copy={what}]")
        page.page.wait_for_selector(f"[data-copy={what}]:text-is('Copied')")
        copied = page.page.evaluate("navigator.clipboard.readText()")
        assert copied == page.page.text_content(f"#{what}")


def test_a_link_holds_the_settings(visit):
    page = visit().open()
    page.page.click("#none")
    page.page.click("#chips >> text=sandal")
    page.page.fill("#per-label", "3")
    page.page.fill("#seed", "77")
    page.page.select_option(".settings[data-side=a] [data-set=sampler]", "random")
    page.go()
    page.page.click("#link")
    page.page.wait_for_selector("#link:text-is('Copied')")
    link = page.page.evaluate("navigator.clipboard.readText()")
    assert link == page.page.url
    other = visit().open(link.removeprefix(page.address + "/"))
    assert other.tiles() == page.tiles()
    assert other.page.input_value("#seed") == "77"


@pytest.mark.parametrize(
    "query",
    ["?seed=x&steps=1e9&sampler=evil&class=none+such&n=-4", "?b.steps=9&view=nowhere&guidance=inf"],
)
def test_a_bad_link_draws_what_can_be_drawn(visit, query):
    page = visit().open(query)
    assert len(page.tiles()) == 20
    if "seed" in query:
        assert re.search(
            "not here: no class none such.*seed of x.*steps of 1e9.*no sampler evil",
            page.page.inner_text("#warning"),
        )


def test_stop(visit):
    every = "&".join(f"class={quote(name)}" for name in NAMES)
    page = visit().open(f"?n=1&{every}")
    page.page.fill("#per-label", "6")
    page.page.fill(".settings[data-side=a] [data-set=steps]", "64")
    page.page.select_option(".settings[data-side=a] [data-set=sampler]", "remask")
    page.page.click("#go")
    page.page.wait_for_selector("#stop:visible")
    page.page.click("#stop")
    page.page.wait_for_selector("body:not(.busy)")
    assert page.status() == "Stopped"
    page.page.click(".settings[data-side=a] .reset")
    page.page.fill("#per-label", "1")
    page.go()
    assert len(page.tiles()) == 10


def test_by_keyboard_alone(visit):
    page = visit().open("?class=bag&n=1")
    page.page.focus("#tab-draw")
    page.page.keyboard.press("ArrowRight")
    assert page.page.get_attribute("#tab-compare", "aria-selected") == "true"
    page.page.keyboard.press("ArrowLeft")
    seen = set()
    for _ in range(60):
        page.page.keyboard.press("Tab")
        seen.add(
            page.page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    assert {"theme", "seed", "per-label", "dice", "go", "link", "tile"} <= seen
    page.page.focus("#seed")
    page.page.keyboard.press("ArrowUp")
    page.page.keyboard.press("Enter")
    page.drawn()
    assert page.tiles()[0][0] == "bag, seed 1"


NAMELESS = """() => [...document.querySelectorAll('input,select,button,canvas,progress')]
  .filter((one) => one.offsetParent !== null)
  .filter((one) => !(one.labels && [...one.labels].some((label) => label.textContent.trim()))
    && !one.getAttribute('aria-label') && !one.textContent.trim() && !one.querySelector('img[alt]'))
  .map((one) => one.outerHTML)"""


@pytest.mark.parametrize("view", ["draw", "compare", "edit"])
def test_everything_has_a_name_and_fits_a_telephone(visit, view):
    page = visit(viewport=TELEPHONE, has_touch=True, is_mobile=True).open(
        "?n=4&class=bag&class=a+%26+%3Cb%3E"
    )
    if view == "edit":
        page.edit()
    else:
        page.page.click(f"#tab-{view}")
        page.go()
    assert page.page.evaluate(NAMELESS) == []
    assert page.page.evaluate("[...document.images].every((one) => one.hasAttribute('alt'))")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    first = page.page.locator("#pictures").bounding_box()
    assert first["y"] < page.page.locator("aside").bounding_box()["y"], "pictures first"


def test_dark_and_light_and_a_choice_that_is_kept(visit):
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = visit(color_scheme="light").open(), visit(color_scheme="dark").open()
    colours = light.page.evaluate(paper), dark.page.evaluate(paper)
    assert colours[0] != colours[1]
    dark.page.click("#theme")
    assert dark.page.evaluate(paper) == colours[0]
    dark.page.reload()
    dark.drawn()
    assert dark.page.evaluate(paper) == colours[0]


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (one) => { while (one && rgb(getComputedStyle(one).backgroundColor)[3] === 0) one = one.parentElement;
    return rgb(getComputedStyle(one || document.body).backgroundColor); };
  return [...document.querySelectorAll('p,h1,h2,span,button,pre,legend,output,figcaption')]
    .filter((one) => one.offsetParent !== null && one.textContent.trim() && !one.disabled)
    .map((one) => { const [a, b] = [light(rgb(getComputedStyle(one).color)), light(under(one))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.outerHTML.slice(0, 80)]; })
    .filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(visit, scheme):
    page = visit(color_scheme=scheme).open("?class=bag&n=1")
    assert page.page.evaluate(CONTRAST) == []

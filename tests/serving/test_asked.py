import base64
import json
import math

import numpy as np
import pytest
from PIL import Image

from maskgit.config.presets import Preset
from maskgit.editing import check_places
from maskgit.serving.asked import (
    Limits,
    draw_asked,
    edit_asked,
    editable,
    opened,
    picture_asked,
    thumbs_asked,
)
from tests.serving.conftest import as_address, drawing, editing, mask, picture


def test_a_request_becomes_what_it_says(tiny_pipeline, limits):
    tiny_pipeline.presets = {"good": Preset(sampler={"name": "halton", "steps": 3})}
    asked = draw_asked(drawing(steps=3, guidance=2, sampler="halton"), tiny_pipeline, limits)
    assert asked.items == [(0, 7), (0, 8), (2, 9), (2, 10)]
    assert asked.drawing.given == {"guidance": 2.0, "sampler": "halton", "steps": 3}
    asked = draw_asked(drawing(preset="good"), tiny_pipeline, limits)
    assert asked.drawing.given == {"preset": "good"}
    assert hash(asked) == hash(draw_asked(drawing(preset="good"), tiny_pipeline, limits))


def test_edits_become_what_they_say(tiny_pipeline, limits):
    asked = edit_asked(editing("inpaint", mask=as_address(mask())), tiny_pipeline, limits)
    assert asked.image.shape == (1, 16, 16) and asked.own["mask"].sum() == 36
    assert np.array_equal(asked.image[0].numpy(), np.asarray(picture()))
    boxed = edit_asked(editing("inpaint", box=[0, 4, 8, 16]), tiny_pipeline, limits)
    assert boxed.own == {"box": (0, 4, 8, 16)} and boxed.label == 1 and boxed.seed == 3
    wide = edit_asked(editing("outpaint", margins=[4, 0, 0, 8]), tiny_pipeline, limits)
    assert wide.own == {"margins": (4, 0, 0, 8)}
    varied = edit_asked(editing("variation", keep=0.5), tiny_pipeline, limits)
    assert varied.own == {"keep": 0.5} and varied == edit_asked(
        editing("variation", keep=0.5), tiny_pipeline, limits
    )


BAD = [
    "", "[]", "null", "{", "[" * 100_000, '"a"', drawing(strange=1), drawing(labels=[]),
    drawing(labels=[3]), drawing(labels=[-1]), drawing(labels=["bag"]), drawing(labels=[True]),
    drawing(labels=[0.5]), drawing(labels={"0": 1}), drawing(labels=[0] * 65), drawing(per_label=0),
    drawing(per_label=33), drawing(per_label="2"), drawing(per_label=1.5), drawing(seed=-1),
    drawing(seed=2**60), drawing(seed=math.nan), drawing(steps=0), drawing(steps=65),
    drawing(steps=1e9), drawing(steps="4"), drawing(steps=True), drawing(guidance=math.inf),
    drawing(guidance=math.nan), drawing(guidance=-1), drawing(guidance=21),
    drawing(guidance={"scale": 2}), drawing(sampler="nothing"), drawing(sampler=["halton"]),
    drawing(sampler="critic"), drawing(sampler={"name": "halton"}), drawing(sampler="x" * 200),
    drawing(preset="none such"), drawing(preset="../../etc/passwd"), drawing(temperature=-1),
    drawing(guidance=10**400), drawing(seed=10**400), drawing(temperature=[1, 2]), drawing(height=10**6),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:40])
def test_bad_values_never_reach_the_model(text, tiny_pipeline, limits, monkeypatch):
    monkeypatch.setattr(tiny_pipeline.model, "embed", None)
    with pytest.raises(ValueError) as told:
        draw_asked(text, tiny_pipeline, limits)
    assert len(str(told.value)) < 250 and "\n" not in str(told.value)


def gif_bomb():
    """A header that says 60,000 x 60,000 pixels."""
    return b"GIF89a" + (60000).to_bytes(2, "little") * 2 + b"\x00\x00\x00;"


WORSE = [
    editing("inpaint"), editing("nothing", keep=0.1), editing(["inpaint"], keep=0.1),
    editing("inpaint", box=[0, 0, 4, 4], mask=as_address(mask())), editing("inpaint", box=[0, 0]),
    editing("inpaint", box=[0, 0, 17, 4]), editing("inpaint", box=[4, 4, 4, 8]),
    editing("inpaint", box="0,0,4,4"), editing("inpaint", box=[0, 0, 1e400, 4]),
    editing("inpaint", mask=as_address(mask(8, 8))), editing("inpaint", mask="x"),
    editing("inpaint", mask=as_address(mask(box=(0, 0, 0, 0)))), editing("outpaint", margins=[0, 0, 0, 64]),
    editing("outpaint", margins=[-4, 0, 0, 0]), editing("variation", keep=1), editing("variation", keep="0.5"),
    editing("variation", keep=0.5, label=3), editing("variation", keep=0.5, label=None, seed=-1),
    editing("variation", keep=0.5, other="/etc/passwd"),
]  # fmt: skip


@pytest.mark.parametrize("text", WORSE, ids=lambda text: text[-60:])
def test_bad_edits_never_reach_the_model(text, tiny_pipeline, limits, monkeypatch):
    monkeypatch.setattr(type(tiny_pipeline.tokenizer), "encode", None)
    with pytest.raises(ValueError) as told:
        edit_asked(text, tiny_pipeline, limits)
    assert len(str(told.value)) < 250 and "\n" not in str(told.value)


FILES = [
    None, 5, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "/etc/passwd",
    "file:///etc/passwd", "http://127.0.0.1:1/x.png", "data:text/html;base64,PGI+", "data:image/png;base64,",
    "data:image/png;base64,!!!", "data:image/png;base64," + base64.b64encode(b"no picture").decode(),
    "data:image/gif;base64," + base64.b64encode(gif_bomb()).decode(),
    "data:image/svg+xml;base64," + base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(),
    "data:image/png;base64," + base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n").decode(),
    as_address(picture())[:-60], as_address(Image.new("L", (2000, 4))),
]  # fmt: skip


@pytest.mark.parametrize("value", FILES, ids=lambda value: str(value)[:40])
def test_what_is_no_picture_is_refused_and_no_file_is_read(
    value, tiny_pipeline, limits, monkeypatch
):
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("a file was opened"))
    with pytest.raises(ValueError, match="the picture"):
        picture_asked(value, tiny_pipeline, limits)


def test_a_file_too_large_is_refused_before_it_is_decoded(tiny_pipeline):
    few = Limits(file_bytes=100)
    with pytest.raises(ValueError, match="larger than"):
        picture_asked("data:image/png;base64," + "A" * 10_000_000, tiny_pipeline, few)
    with pytest.raises(ValueError, match="million"):
        picture_asked(as_address(picture(64, 64)), tiny_pipeline, Limits(file_pixels=64 * 64 - 1))


def test_a_picture_of_any_size_is_cut_to_the_models(tiny_pipeline, limits):
    assert opened(json.dumps({"image": as_address(picture(50, 30))}), tiny_pipeline, limits).shape == (1, 16, 16)  # fmt: skip
    large = picture_asked(as_address(picture(16, 32)), tiny_pipeline, limits)
    assert large.shape == (1, 16, 32), "what was extended is edited again as it is"
    assert not editable(tiny_pipeline, (160, 160), limits)
    colours = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert (picture_asked(as_address(colours), tiny_pipeline, limits) == 255).all()


def test_thumbnails_are_asked_for_by_the_dozen(tiny_pipeline, limits):
    assert thumbs_asked('{"labels": [2, 0]}', tiny_pipeline, limits) == [2, 0]
    with pytest.raises(ValueError, match="at once"):
        thumbs_asked(json.dumps({"labels": [0] * 13}), tiny_pipeline, limits)


def test_a_model_without_guidance_has_none(tiny_pipeline, limits, monkeypatch):
    def null(labels):
        raise ValueError("no label is not known")

    monkeypatch.setattr(tiny_pipeline.net, "null", null)
    draw_asked(drawing(guidance=1), tiny_pipeline, limits)
    with pytest.raises(ValueError, match="without guidance"):
        draw_asked(drawing(guidance=2), tiny_pipeline, limits)


def test_more_rounds_of_its_own_than_are_served_become_fewer(tiny_pipeline):
    asked = draw_asked(drawing(), tiny_pipeline, Limits(rounds=2))
    assert asked.drawing.given == {"steps": 2}


def test_codes_without_places_have_no_parts_to_draw(tiny_pipeline, limits, monkeypatch):
    monkeypatch.setattr(type(tiny_pipeline.tokenizer), "has_places", False)
    with pytest.raises(ValueError) as own:
        check_places(tiny_pipeline)
    with pytest.raises(ValueError) as told:
        edit_asked(editing("inpaint", box=[0, 0, 4, 4]), tiny_pipeline, limits)
    assert str(told.value) == str(own.value)

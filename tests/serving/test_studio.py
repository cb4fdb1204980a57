import json

import numpy as np
import pytest

from maskgit.serving import Limits, Studio
from maskgit.serving.studio import REMEMBERED, Clock
from tests.conftest import TINY_TOKENIZER, make_pipeline
from tests.serving.conftest import as_address, as_image, drawing, editing, mask, picture
from vqgan.tokenizer import Tokenizer


def test_the_grid_fills_round_by_round(studio):
    first, *rounds, last = studio.draw(drawing(steps=4))
    assert first == {"round": 0, "rounds": 4, "count": 4}
    assert [event["round"] for event in rounds] == [1, 2, 3, 4]
    grey = [(np.asarray(as_image(event["images"][0])) == 128).sum() for event in rounds]
    assert grey == sorted(grey, reverse=True) and grey[0] > grey[-1]
    assert last["done"] and last["labels"] == [0, 0, 2, 2] and last["seeds"] == [7, 8, 9, 10]
    assert last["settings"] == "confidence · 4 rounds"
    [alone] = studio.pipeline.generate([2], [9], steps=4)
    assert np.array_equal(np.asarray(as_image(last["images"][2])), np.asarray(alone))


def test_an_image_depends_on_its_class_and_seed_alone(studio):
    *_, all_of_it = studio.draw(drawing())
    *_, alone = studio.draw(drawing(labels=[2], per_label=1, seed=9))
    assert alone["images"][0] == all_of_it["images"][2]


def test_pixels_outside_the_brush_stay(studio):
    _, *rounds, last = studio.edit(editing("inpaint", mask=as_address(mask())))
    outside = np.ones((16, 16), bool)
    outside[:8, :8] = False  # whole cells
    for event in [*rounds, last]:
        shown = np.asarray(as_image(event["images"][0]))
        assert np.array_equal(shown[outside], np.asarray(picture())[outside])
    assert len(rounds) == 4 and np.array_equal(np.asarray(as_image(last["before"])), picture())


def test_an_edge_is_extended_and_shown_at_its_size(studio):
    _, *rounds, last = studio.edit(editing("outpaint", margins=[0, 0, 8, 0]))
    for event in [*rounds, last]:
        assert as_image(event["images"][0]).size == (24, 16)
    assert np.array_equal(np.asarray(as_image(last["images"][0]))[:, :16], picture())


def test_a_box_takes_another_class_and_a_variation_keeps_cells(studio):
    for label in (0, 1):
        *_, last = studio.edit(editing("inpaint", box=[4, 4, 12, 12], label=label))
        assert last["mask"] is None and "--box 4,4,12,12" in last["command"]
    *_, last = studio.edit(editing("variation", keep=0.9))
    assert "--keep 0.9" in last["command"]


def test_a_file_is_made_of_what_was_drawn(studio, monkeypatch):
    list(studio.draw(drawing()))
    drawn = []
    monkeypatch.setattr(studio, "_draw", lambda *_: drawn.append(1))
    [file] = studio.file("grid.png", drawing())
    assert not drawn and as_image(file["address"]).format == "PNG"
    with pytest.raises(ValueError, match="unknown file"):
        list(studio.file("../../etc/passwd", drawing()))


def test_a_file_of_what_is_forgotten_is_drawn_again(studio):
    [before] = studio.file("strip.png", drawing())
    for seed in range(REMEMBERED + 1):
        list(studio.draw(drawing(labels=[0], per_label=1, seed=seed)))
    assert len(studio.made) == REMEMBERED
    assert list(studio.file("strip.png", drawing())) == [before]
    [moving] = studio.file("fill.gif", editing("variation", keep=0.5))
    assert as_image(moving["address"]).n_frames == 5


def test_thumbnails_are_made_once(studio, monkeypatch):
    [found] = studio.thumbs('{"labels": [1, 0]}')
    monkeypatch.setattr(studio.pipeline, "stream", None)
    assert list(studio.thumbs('{"labels": [0, 1]}')) == [found[::-1]]


def test_mistakes_are_one_line_and_the_studio_answers_afterwards(studio):
    with pytest.raises(ValueError, match="class: a whole number"):
        list(studio.draw(drawing(labels=[9])))
    with pytest.raises(ValueError, match="margins are multiples of 4"):
        list(studio.edit(editing("outpaint", margins=[3, 0, 0, 0])))
    assert list(studio.draw(drawing()))[-1]["done"]


def test_a_drawing_that_is_left_ends(studio):
    events = studio.draw(drawing(steps=4))
    next(events)
    events.close()
    assert list(studio.draw(drawing()))[-1]["done"]


def test_images_beyond_a_batch_are_drawn_after_each_other(studio, monkeypatch):
    *_, whole = studio.draw(drawing())
    monkeypatch.setattr(studio.pipeline, "at_once", lambda *_: 3)
    _, *rounds, last = studio.draw(drawing())
    assert [event["round"] for event in rounds] == list(range(1, 9))
    assert {event["first"] for event in rounds} == {0, 3} and last["images"] == whole["images"]


def test_what_the_page_is_told(studio):
    about = studio.about()
    assert json.loads(json.dumps(about)) == about
    assert about["classes"] == ["bag", "t-shirt", "coat"] and about["cell"] == 4
    assert about["own"]["steps"] == 4 and about["guided"] and about["places"]
    assert "halton" in about["samplers"] and "critic" not in about["samplers"]


def test_a_model_of_one_class_and_of_two_codes_a_cell():
    studio = Studio(make_pipeline(2, ("all",)), "x", Limits(images=4))
    *_, last = studio.draw(drawing(labels=[0]))
    assert len(last["images"]) == 2
    *_, last = studio.edit(editing("inpaint", label=0, box=[0, 0, 8, 8]))
    assert last["done"]


def test_showing_takes_no_longer_than_drawing(monkeypatch):
    now = iter([0.0, 1.0, 1.1, 2.0, 12.0, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = Clock()
    clock.drew()
    assert clock.may_show()
    clock.showed()
    clock.drew()
    assert clock.may_show()
    clock.showed()
    clock.drew()
    assert not clock.may_show(), "10 seconds of showing, 3 of drawing"


def test_transparent_pictures_are_drawn_and_edited(tiny_pipeline):
    quantizer = {"name": "fsq", "levels": [4, 4]}
    tiny_pipeline.own_tokenizer = Tokenizer(
        image_size=16, channels=4, **TINY_TOKENIZER, quantizer=quantizer
    ).eval()
    studio = Studio(tiny_pipeline, "x")
    *_, last = studio.draw(drawing(labels=[1], per_label=1))
    assert as_image(last["images"][0]).mode == "RGBA" and studio.about()["channels"] == 4
    one = {"image": last["images"][0], "what": "inpaint", "box": [0, 0, 8, 8], "label": 0}
    *_, done = studio.edit(json.dumps(one))
    before, after = (np.asarray(as_image(found)) for found in (done["before"], done["images"][0]))
    assert np.array_equal(before[8:], after[8:]) and not np.array_equal(before, after)
    again = studio.edit(json.dumps({**one, "image": done["before"]}))
    assert list(again)[-1]["images"] == done["images"], "as the command edits before.png"
    assert len(list(studio.file("strip.png", json.dumps(one)))) == 1

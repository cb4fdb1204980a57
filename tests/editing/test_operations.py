import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskgit.data.pixels import to_float, to_pil, to_pixels
from maskgit.editing.operations import EDITS, box_mask, encode
from maskgit.editing.operations import edit as edit_picture

F = 4  # pixels a side of a cell of tiny_pipeline
NEEDS = {
    "inpaint": {"box": (4, 0, 12, 8)},
    "outpaint": {"margins": (8, 0, 4, 0)},
    "variation": {},
    "interpolate": {"other": 1, "other_label": 2},
}


def picture(seed=0, height=16, width=16):
    return torch.randint(
        256, (1, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def edit(pipeline, what, image=None, **options):
    options = {**NEEDS[what], **options}
    if isinstance(options.get("other"), int):
        options["other"] = picture(options["other"])
    return EDITS[what](pipeline, picture() if image is None else image, **{"label": 1, **options})


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_gives_codes_and_pixels(what, tiny_pipeline):
    for found in edit(tiny_pipeline, what):
        assert found.image.dtype == torch.uint8 and found.image.shape == found.before.shape
        assert found.codes.min() >= 0 and found.codes.max() < 16
        assert torch.equal(found.image[:, ~found.changed], found.before[:, ~found.changed])
        assert torch.equal(found.rounds[-1].codes[0], found.codes)


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_depends_on_its_seed_only(what, tiny_pipeline):
    first, again, other = (edit(tiny_pipeline, what, seed=seed) for seed in (5, 5, 6))
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a.codes, b.codes) for a, b in zip(first, other, strict=True))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_codes_and_pixels_outside_the_mask_never_change(data):
    from tests.conftest import make_pipeline

    pipeline = make_pipeline(data.draw(st.integers(1, 3)))
    height, width = (F * data.draw(st.integers(4, 7)) for _ in range(2))
    image = picture(data.draw(st.integers(0, 99)), height, width)
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    options = {
        "box": (left, top, right, bottom),
        "feather": data.draw(st.integers(0, 3)),
        "steps": 3,
    }
    [found] = EDITS["inpaint"](pipeline, image, label=data.draw(st.integers(0, 2)), **options)
    asked = box_mask(height, width, options["box"])
    hidden = pipeline.tokenizer.codes_of(asked)
    assert torch.equal(found.codes[~hidden], encode(pipeline, image)[~hidden])
    assert torch.equal(found.image[:, ~found.changed], image[:, ~found.changed])
    assert (
        torch.equal(found.changed, pipeline.tokenizer.pixels_of(hidden))
        and (found.changed | ~asked).all()
    )


def test_codes_without_places_are_edited_only_where_none_is_needed(tiny_pipeline):
    tiny_pipeline.tokenizer.has_places = False
    for what in EDITS:
        if what in ("inpaint", "outpaint"):
            with pytest.raises(ValueError, match="codes have no places in the image"):
                edit(tiny_pipeline, what)
        else:
            assert all(found.changed.all() for found in edit(tiny_pipeline, what))


def test_all_codes_of_a_cell_are_drawn_together():
    from tests.conftest import make_pipeline

    pipeline = make_pipeline(2)
    [found] = edit(pipeline, "inpaint", box=(5, 1, 6, 2))
    start = found.rounds[0].codes[0] == pipeline.model.mask_id
    assert start.nonzero().tolist() == [[0, 2], [0, 3]] and found.changed.sum() == F * F
    [wide] = edit(pipeline, "outpaint", margins=(8, 0, 4, 0))
    assert wide.image.shape == (1, 16, 28) and wide.codes.shape == (4, 14)
    assert torch.equal(wide.codes[:, 4:12], encode(pipeline, picture()))


def test_a_mask_and_a_box_are_the_same(tiny_pipeline):
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[0:8, 4:12] = True
    [by_box] = edit(tiny_pipeline, "inpaint")
    [by_mask] = edit(tiny_pipeline, "inpaint", mask=mask, box=None)
    assert torch.equal(by_box.image, by_mask.image)


def test_a_mask_grows_to_whole_cells(tiny_pipeline):
    [found] = edit(tiny_pipeline, "inpaint", box=(5, 1, 6, 2))
    assert found.changed.sum() == F * F and found.changed[0:4, 4:8].all()


def test_feathering_mixes_inside_the_drawn_part_only(tiny_pipeline):
    [hard], [soft] = (edit(tiny_pipeline, "inpaint", feather=feather) for feather in (0, 2))
    assert torch.equal(hard.codes, soft.codes) and not torch.equal(hard.image, soft.image)
    assert torch.equal(soft.image[:, ~soft.changed], soft.before[:, ~soft.changed])
    # the outermost ring of pixels: one third of what was drawn
    border = soft.image[0, 5, 4].float()
    expected = hard.image[0, 5, 4].float() / 3 + 2 * soft.before[0, 5, 4].float() / 3
    assert border == expected.round()
    assert torch.equal(soft.image[0, 2:6, 7:10], hard.image[0, 2:6, 7:10]), (
        "the middle is all drawn"
    )


def test_a_part_narrower_than_the_feather_is_drawn_in_its_middle(tiny_pipeline):
    [hard], [soft] = (
        edit(tiny_pipeline, "inpaint", box=(4, 4, 8, 8), feather=feather) for feather in (0, 10)
    )
    assert torch.equal(soft.image[0, 5:7, 5:7], hard.image[0, 5:7, 5:7])


@pytest.mark.parametrize(("height", "width"), [(8, 12), (16, 16), (24, 20)])
def test_rotary_positions_edit_images_of_any_size(height, width):
    from tests.conftest import make_pipeline

    pipeline, image = make_pipeline(positions="rotary"), picture(0, height, width)
    [found] = EDITS["inpaint"](pipeline, image, label=1, box=(4, 0, 12, 8), steps=3)
    assert found.image.shape == image.shape and not torch.equal(found.image, image)
    assert torch.equal(found.image[:, ~found.changed], image[:, ~found.changed])
    with pytest.raises(ValueError, match=r"the nearest size that can is 8x12"):
        EDITS["inpaint"](pipeline, picture(0, 9, 12), label=1, box=(4, 0, 8, 8))


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_what_an_outpainting_or_a_variation_keeps_has_its_codes(data):
    from tests.conftest import make_pipeline

    pipeline = make_pipeline(data.draw(st.integers(1, 2)))
    image = picture(data.draw(st.integers(0, 99)))
    margins = [F * data.draw(st.integers(0, 3)) for _ in range(4)]
    known = encode(pipeline, image)
    if any(margins):
        [found] = EDITS["outpaint"](pipeline, image, label=0, margins=margins, steps=2)
        left, top = margins[0] // F * pipeline.tokenizer.codes_per_cell, margins[1] // F
        inside = found.codes[top : top + known.shape[0], left : left + known.shape[1]]
        assert torch.equal(inside, known)
    keep = data.draw(st.floats(0, 0.99))
    [found] = EDITS["variation"](pipeline, image, label=0, keep=keep, steps=2)
    start = found.rounds[0].codes[0]
    kept = start != pipeline.model.mask_id
    assert torch.equal(found.codes[kept], known[kept]) and torch.equal(start[kept], known[kept])


def test_another_label_draws_something_else(tiny_pipeline):
    [one], [other] = (edit(tiny_pipeline, "inpaint", label=label, guidance=4.0) for label in (0, 2))
    assert not torch.equal(one.codes, other.codes)


@pytest.mark.parametrize("margins", [(8, 0, 0, 0), (0, 4, 0, 8), (4, 4, 4, 4), (0, 0, 32, 0)])
def test_outpainting_keeps_the_image_in_its_place(margins, tiny_pipeline):
    left, top, right, bottom = margins
    [found] = edit(tiny_pipeline, "outpaint", margins=margins)
    assert found.image.shape == (1, 16 + top + bottom, 16 + left + right)
    assert torch.equal(found.image[:, top : top + 16, left : left + 16], picture())
    known = found.codes[top // F : top // F + 4, left // F : left // F + 4]
    assert torch.equal(known, encode(tiny_pipeline, picture()))


def test_a_feathered_margin_fades_from_the_border_of_the_image(tiny_pipeline):
    """Not from the grey that stands for what is not there."""
    white = torch.full((1, 16, 16), 255, dtype=torch.uint8)
    [hard], [soft] = (
        edit(tiny_pipeline, "outpaint", white, margins=(0, 0, 8, 0), feather=f) for f in (0, 3)
    )
    expected = (hard.image[0, 5, 16].float() + 3 * 255) / 4
    assert soft.image[0, 5, 16] == expected.round()


def test_a_small_box_sees_the_whole_course_of_guidance(tiny_pipeline):
    """One cell is drawn in one round, the last one."""
    [many], [one] = (
        edit(tiny_pipeline, "inpaint", box=(0, 0, 4, 4), steps=steps, guidance=3.0)
        for steps in (24, 1)
    )
    assert torch.equal(many.codes, one.codes) and len(many.rounds) == 2


def test_a_variation_keeps_the_share_that_it_says(tiny_pipeline):
    before = encode(tiny_pipeline, picture())
    for keep in (0.0, 0.25, 0.75):
        [found] = edit(tiny_pipeline, "variation", keep=keep)
        assert (found.rounds[0].codes != 16).sum() == round(keep * 16)
        same = found.rounds[0].codes[0] != 16
        assert torch.equal(found.codes[same], before[same])


def test_an_interpolation_ends_at_both_images(tiny_pipeline):
    frames = edit(tiny_pipeline, "interpolate", num_frames=5)
    assert len(frames) == 5
    assert torch.equal(frames[0].codes, encode(tiny_pipeline, picture()))
    assert torch.equal(frames[-1].codes, encode(tiny_pipeline, picture(1)))
    hidden = [int((frame.rounds[0].codes == 16).sum()) for frame in frames]
    assert hidden[0] == hidden[4] == 0 and hidden[2] >= max(hidden[1], hidden[3]) > 0
    for frame in frames:
        start = frame.rounds[0].codes[0]
        assert ((start == frames[0].codes) | (start == frames[-1].codes) | (start == 16)).all()


def test_an_interpolation_of_labels_ends_at_those_labels(tiny_pipeline):
    frames = edit(
        tiny_pipeline, "interpolate", other=None, label=0, other_label=2, keep=0.0, num_frames=3
    )
    for frame, label in ((frames[0], 0), (frames[-1], 2)):
        *_, codes = tiny_pipeline.rounds([label], [0])
        assert torch.equal(frame.codes, codes[0]), "with the seed's own noise"


def test_with_a_picture_in_hand(tiny_pipeline):
    image = to_pil(to_float(picture()))
    [found] = edit_picture(tiny_pipeline, "inpaint", image, label="coat", box=(0, 0, 8, 8), seed=3)
    assert isinstance(found, Image.Image) and found.size == (16, 16)
    [same] = edit(tiny_pipeline, "inpaint", label=2, box=(0, 0, 8, 8), seed=3)
    assert torch.equal(same.image, to_pixels(found, 1))
    mask = to_pil(to_float(255 * box_mask(16, 16, (0, 0, 8, 8))[None].to(torch.uint8)))
    assert (
        edit_picture(tiny_pipeline, "inpaint", image, label="coat", mask=mask, seed=3)[0].tobytes()
        == found.tobytes()
    )
    frames = edit_picture(
        tiny_pipeline, "interpolate", image, label=0, other=image, other_label="coat", num_frames=3
    )
    assert len(frames) == 3


WRONG = {
    "is empty or not inside": ("inpaint", {"box": (4, 4, 4, 8)}),
    "not inside an image of 16 pixels": ("inpaint", {"box": (0, 0, 17, 8)}),
    "either a mask or a box": ("inpaint", {"box": None}),
    "the mask is empty": ("inpaint", {"box": None, "mask": torch.zeros(16, 16, dtype=torch.bool)}),
    "the mask is 8 pixels across": (
        "inpaint",
        {"box": None, "mask": torch.ones(16, 8, dtype=torch.bool)},
    ),
    "nearest size that can is 16x16": ("inpaint", {"image": picture(0, 15, 17)}),
    "nearest size that can is 16x20": ("inpaint", {"image": picture(0, 8, 20)}),
    "multiples of 4 pixels, such as 8,0,4,0": ("outpaint", {"margins": (7, 0, 3, 1)}),
    "all margins are 0": ("outpaint", {"margins": (0, 0, 0, 0)}),
    "12x8, margins included, are smaller than the model's: the nearest size that can be edited is 16x16": (
        "outpaint",
        {"image": picture(0, 8, 8), "margins": (0, 4, 0, 0)},
    ),
    "keep lies in": ("variation", {"keep": 1.0}),
    "two frames at least": ("interpolate", {"num_frames": 1}),
    "of the same size, not 16x16 and 16x20": ("interpolate", {"other": picture(0, 16, 20)}),
    "another image or another label": ("interpolate", {"other": None, "other_label": None}),
    "draws 1 channels, the image has 3": ("inpaint", {"image": picture().expand(3, -1, -1)}),
    "labels lie in 0": ("variation", {"label": 7}),
    "feather is a number of pixels": ("inpaint", {"feather": -1}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_edited_is_refused(message, tiny_pipeline):
    what, options = WRONG[message]
    with pytest.raises(ValueError, match=message):
        edit(tiny_pipeline, what, **options)

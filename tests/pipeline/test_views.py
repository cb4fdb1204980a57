import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.pipeline.views import Views, frames, watched


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_frames_show_hidden_cells_grey(tiny_pipeline):
    rounds = list(tiny_pipeline.rounds([0, 1], [0, 1]))
    images = frames(tiny_pipeline, rounds)
    assert images.shape == (2, len(rounds), 1, 16, 16)
    hidden = (rounds[0] == 16).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert (images[:, 0, 0][hidden] == 0).all() and (images[:, -1] != 0).any()


def test_confidence_is_the_probability_of_what_was_drawn(tiny_pipeline):
    """In one round of an empty grid, by the net itself."""
    [found] = tiny_pipeline.watch([1], [0], steps=1, guidance=1.0)
    with torch.no_grad():
        probs = tiny_pipeline.net(torch.full((1, 4, 4), 16), torch.tensor([1])).softmax(-1)
    assert torch.allclose(
        found.confidence, probs.gather(-1, found.codes[..., None])[..., 0], atol=1e-6
    )


def test_hidden_cells_have_no_confidence(tiny_pipeline):
    for found in tiny_pipeline.watch([0, 2], [0, 1]):
        assert torch.equal(found.confidence.isnan(), found.codes == 16)
        known = found.confidence[~found.confidence.isnan()]
        assert (known >= 0).all() and (known <= 1).all()


def test_watching_changes_nothing(tiny_pipeline):
    for sampler in ("confidence", "halton", "remask"):
        *_, codes = tiny_pipeline.rounds([0, 1], [4, 5], sampler=sampler)
        *_, found = tiny_pipeline.watch([0, 1], [4, 5], sampler=sampler)
        assert torch.equal(codes, found.codes)


def test_the_pictures(tiny_pipeline, tmp_path):
    views = Views(tmp_path / "strip.png", tmp_path / "moving.gif", tmp_path / "heat.png")
    images, confidence = watched(tiny_pipeline, [0, 1, 2], [0, 1, 2])
    assert views.draw(images, confidence, ["a", "b", "c"]) == [
        views.strip,
        views.gif,
        views.confidence,
    ]
    with Image.open(views.gif) as moving:
        assert moving.n_frames == images.shape[1] and moving.info["loop"] == 0
        durations = []
        for number in range(moving.n_frames):
            moving.seek(number)
            durations.append(moving.info["duration"])
        assert durations[-1] > durations[0]
        moving.seek(0)
        first = np.asarray(moving.convert("RGB"))
        moving.seek(moving.n_frames - 1)
        assert (first != np.asarray(moving.convert("RGB"))).any()
    assert size_of(views.strip)[0] > 4 * 64 and size_of(views.confidence)[0] > 200


def test_suffixes_are_checked_first(tmp_path):
    with pytest.raises(ValueError, match=r"moving.png: this picture is written as .gif"):
        Views(gif=tmp_path / "moving.png").check()
    assert not Views() and Views(strip=tmp_path / "a.png")

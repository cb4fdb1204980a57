import numpy as np
import pytest
from PIL import Image

from maskgit.config.presets import Preset
from maskgit.data.pixels import to_pil
from maskgit.pipeline.drawing import (
    Request,
    draw_grid,
    draw_images,
    draw_npz,
    draw_views,
    load_pipeline,
    warn_of_preset,
)
from maskgit.pipeline.views import Views


def request_of(labels, per_label, **options):
    return Request(labels, per_label, seed=5, batch_size=4, options={"steps": 2} | options)


@pytest.fixture
def wanted(tiny_pipeline):
    """The images of a request, drawn one by one."""

    def draw(request):
        return [
            next(iter(tiny_pipeline.stream([label], [seed], **request.options)))
            for label, seed in request.items()
        ]

    return draw


def test_seeds_run_on_over_the_labels():
    assert request_of([2, 0], 2).items() == [(2, 5), (2, 6), (0, 7), (0, 8)]


def test_files_are_named_by_label_class_and_seed(tiny_pipeline, wanted, tmp_path):
    request = request_of([1, 2], 3)
    paths = draw_images(tiny_pipeline, request, tmp_path)
    assert [path.name for path in paths[::3]] == ["001_t-shirt_000005.png", "002_coat_000008.png"]
    for path, image in zip(paths, wanted(request), strict=True):
        with Image.open(path) as found:
            assert np.array_equal(found, to_pil(image))


def test_an_npz_holds_the_same_images_in_three_channels(tiny_pipeline, wanted, tmp_path):
    request = request_of([0, 1], 3)
    path = draw_npz(tiny_pipeline, request, tmp_path / "s.npz")
    with np.load(path) as found:
        assert found["arr_0"].shape == (6, 16, 16, 3) and found["arr_0"].dtype == np.uint8
        assert found["arr_1"].tolist() == [0, 0, 0, 1, 1, 1]
        for pixels, image in zip(found["arr_0"], wanted(request), strict=True):
            assert np.array_equal(pixels[..., 0], to_pil(image))


def test_a_grid_and_views_are_one_picture_each(tiny_pipeline, tmp_path):
    request = request_of([0, 2], 2)
    paths = [draw_grid(tiny_pipeline, request, tmp_path / "grid.png")]
    paths += draw_views(tiny_pipeline, request, Views(strip=tmp_path / "strip.png"))
    assert [path.name for path in paths] == ["grid.png", "strip.png"]
    assert draw_views(tiny_pipeline, request, Views()) == []


def test_a_preset_of_other_weights_is_told_of(tiny_pipeline, tmp_path, capsys):
    halton = {"name": "halton", "steps": 4}
    tiny_pipeline.presets = {
        "old": Preset(sampler=halton, measured={"weights": {"model": "another"}}),
        "unknown": Preset(sampler=halton),
    }
    tiny_pipeline.save_pretrained(tmp_path)
    pipeline = load_pipeline(tmp_path)
    for name in (None, "unknown", "not there"):
        warn_of_preset(pipeline, tmp_path, name)
    assert capsys.readouterr().err == ""
    warn_of_preset(pipeline, tmp_path, "old")
    assert "the preset old was tuned on other weights" in capsys.readouterr().err

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskgit.config.presets import Preset
from maskgit.data.pixels import to_pil
from maskgit.pipeline.drawing import (
    Request,
    compile_for,
    draw_grid,
    draw_images,
    draw_npz,
    draw_views,
    file_name,
    label_in,
    load_pipeline,
    warn_of_preset,
)
from maskgit.pipeline.views import Views
from tests.conftest import launched


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


def test_a_folder_of_samples_says_what_they_are_of_and_goes_on(
    tiny_pipeline, tmp_path, monkeypatch
):
    request = request_of([1], 3)
    paths = draw_images(tiny_pipeline, request, tmp_path)
    said = json.loads((tmp_path / "samples.json").read_text())
    assert said["class_names"] == ["t-shirt"] and said["settings"]["sampler"]["steps"] == 2
    whole = paths[1].read_bytes()
    paths[1].unlink()
    (tmp_path / ".tmp-half.png").touch()
    drawn = []
    real = tiny_pipeline.stream
    monkeypatch.setattr(
        tiny_pipeline,
        "stream",
        lambda labels, seeds, **o: (drawn.extend(seeds), real(labels, seeds, **o))[1],
    )
    assert draw_images(tiny_pipeline, request, tmp_path) == paths
    assert drawn == [6] and paths[1].read_bytes() == whole
    assert not list(tmp_path.glob(".tmp*"))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (request_of([2], 3), r"labels: \[1\], now \[2\]"),
        (request_of([1], 4), "per_label: 3, now 4"),
        (request_of([1], 3, steps=3), "settings"),
        (request_of([1], 3, negative=0, guidance=2.0), "settings"),
        (Request([1], 3, 6, 4, {"steps": 2}), "seed: 5, now 6"),
    ],
)
def test_samples_of_another_request_are_not_mixed_in(tiny_pipeline, tmp_path, other, said):
    draw_images(tiny_pipeline, request_of([1], 3), tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=rf"samples of another request \({said}.*: choose another"):
        draw_images(tiny_pipeline, other, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_samples_of_other_weights_or_of_nobody_knows_what_are_not_mixed_in(tiny_pipeline, tmp_path):
    draw_images(tiny_pipeline, request_of([1], 3), tmp_path)
    next(tiny_pipeline.model.parameters()).data.add_(1)
    with pytest.raises(ValueError, match="another request .weights"):
        draw_images(tiny_pipeline, request_of([1], 3), tmp_path)
    (tmp_path / "samples.json").unlink()
    with pytest.raises(ValueError, match="images that do not say what they are of"):
        draw_images(tiny_pipeline, request_of([1], 3), tmp_path)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.WEBP", "photo.tif"])
def test_a_folder_of_pictures_of_any_kind_is_not_sampled_into(tiny_pipeline, tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"images that do not say what they are of .{name}"):
        draw_images(tiny_pipeline, request_of([1], 3), tmp_path)
    assert not (tmp_path / "samples.json").exists()


@pytest.mark.slow
def test_two_processes_that_may_not_sample_into_a_folder_both_end_with_a_line(run, tmp_path):
    out = tmp_path / "photos"
    out.mkdir()
    (out / "beach.webp").write_bytes(b"")
    ends = launched(2, "sample", run, "--out", out, "--per-label", 2)
    assert [status for status, _ in ends] == [2, 2]
    assert "images that do not say what they are of (beach.webp)" in ends[0][1]
    assert "maskgit: the main process cannot go on, and says why" in ends[1][1]
    assert all(said.count("maskgit: ") == 1 and "Traceback" not in said for _, said in ends)


def test_a_label_is_read_from_a_name_only_where_the_class_agrees():
    names = ["bag", "ankle boot"]
    assert label_in(Path(file_name(names, 1, 17)), names) == 1
    for name in ("20240100_beach_000003.png", "001_bag_000017.png", "002_coat_000001.png", "x.png"):
        assert label_in(Path(name), names) is None
    assert label_in(Path(file_name(names, 1, 17)), ()) is None


def test_a_sample_that_was_cut_short_is_drawn_again(tiny_pipeline, tmp_path):
    request = request_of([1, 2], 2)
    paths = draw_images(tiny_pipeline, request, tmp_path)
    whole, kept = paths[1].read_bytes(), paths[0].stat().st_mtime_ns
    paths[1].write_bytes(whole[:20])
    draw_images(tiny_pipeline, request, tmp_path)
    assert paths[1].read_bytes() == whole and paths[0].stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("cpus", "best", "found"), [(True, "bf16", "fp32"), (False, "bf16", "bf16")]
)
def test_samples_are_in_the_quicker_precision_on_accelerators(run, monkeypatch, cpus, best, found):
    monkeypatch.setattr("maskgit.pipeline.drawing.cpu_only", lambda: cpus)
    monkeypatch.setattr("maskgit.precision.best_precision", lambda: best)
    assert load_pipeline(run, None).precision == found
    assert load_pipeline(run).precision == "fp32" and load_pipeline(run, "bf16").precision == "bf16"


def test_a_pipeline_is_compiled_where_it_pays_or_is_asked_for(tiny_pipeline, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(tiny_pipeline, "compile", lambda: asked.append(True))
    few, many = request_of([0], 8), request_of([0, 1], 25_000)
    compile_for(tiny_pipeline, many, None)
    compile_for(tiny_pipeline, many, False)
    assert not asked, "never unasked on a CPU"
    compile_for(tiny_pipeline, few, True)
    assert len(asked) == 1 and "compiling" in capsys.readouterr().err
    monkeypatch.setattr("maskgit.pipeline.drawing.cpu_only", lambda: False)
    compile_for(tiny_pipeline, few, None)
    compile_for(tiny_pipeline, many, None)
    assert len(asked) == 2


def test_compiled_it_draws_the_same_images(tiny_pipeline, monkeypatch):
    import torch

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda work: real(work, backend="aot_eager"))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    plain = torch.stack(list(tiny_pipeline.stream([0, 1, 2, 1], range(4))))
    found = torch.stack(list(tiny_pipeline.compile().stream([0, 1, 2, 1], range(4))))
    assert torch.allclose(found, plain, atol=1e-4)

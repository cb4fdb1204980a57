from typing import Annotated, Any

import numpy as np
import pytest
import torch
from annotated_types import Ge
from PIL import Image

from maskgit.editing.operations import EDITS, Edit
from maskgit.editing.requests import Outputs, Retouch, options_for, picture_of, plan, retouch
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.views import Views
from tests.conftest import cli


def call(capfd, *words):
    """-> (status, stdout lines, stderr) of a command in this process."""
    status = cli(*words)
    captured = capfd.readouterr()
    return status, captured.out.splitlines(), captured.err


@pytest.fixture
def run(tiny_pipeline, tmp_path, image_folder):
    tiny_pipeline.class_names = ("bag", "coat", "shoe")
    tiny_pipeline.data = {
        "source": {"name": "folder", "root": str(image_folder)},
        "image_size": 16,
        "channels": 1,
    }
    tiny_pipeline.save_pretrained(tmp_path / "run" / "pipeline")
    return tmp_path / "run"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = torch.randint(
        256, (16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    Image.fromarray(pixels.numpy()).save(path)
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_a_box_of_a_file_is_drawn_anew(run, photo, tmp_path, capfd):
    out = tmp_path / "edited.png"
    words = ("edit", "inpaint", run, photo, "--box", "4,4,12,12", "--label", "coat", "--out", out)
    status, lines, error = call(capfd, *words)
    assert status == 0 and lines == [str(out)] and "grew" not in error
    different = pixels(out) != pixels(photo)
    assert different[4:12, 4:12].any() and not np.delete(different, range(4, 12), 0).any()


def test_the_command_says_when_a_mask_grew(run, photo, tmp_path, capfd):
    mask = np.zeros((16, 16), np.uint8)
    mask[6:7, 6:7] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = (
        "edit",
        "inpaint",
        run,
        photo,
        "--mask",
        tmp_path / "mask.png",
        "--label",
        1,
        "--out",
        tmp_path / "e.png",
    )
    status, _, error = call(capfd, *words)
    assert status == 0 and "it grew to whole ones, 1 -> 16 pixels" in error


def test_images_of_the_data_have_their_own_label(run, tmp_path, capfd):
    words = (
        "edit",
        "variation",
        run,
        "validation:0",
        "validation:5",
        "--number",
        2,
        "--out",
        tmp_path / "many",
    )
    status, lines, _ = call(capfd, *words, "--pairs", tmp_path / "pairs.png")
    assert status == 0 and len(lines) == 5
    names = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert names == [f"validation-{i}_00000{k}.png" for i in (0, 5) for k in (0, 1)]


@pytest.mark.parametrize(
    "words",
    [
        ("outpaint", "--margins", "4,0,4,8"),
        ("interpolate", "--other", "validation:5", "--num-frames", 3),
        ("interpolate", "--other", "validation:5", "--num-frames", 4),
        ("interpolate", "--other-label", "shoe", "--keep", 0, "--num-frames", 3),
        ("inpaint", "--box", "0,0,8,8", "--label", "shoe", "--feather", 2, "--sampler", "halton"),
    ],
    ids=str,
)
def test_edits_can_be_seen(words, run, tmp_path, capfd):
    what, *options = words
    views = [tmp_path / name for name in ("pairs.png", "strip.png", "moving.gif", "heat.png")]
    pictures = [
        word
        for pair in zip(("--pairs", "--strip", "--gif", "--confidence"), views, strict=True)
        for word in pair
    ]
    status, lines, error = call(capfd, "edit", what, run, "validation:0", *options, *pictures)
    assert status == 0, error
    assert sorted(lines) == sorted(map(str, views)) and all(
        pixels(path).shape[1] > 50 for path in views
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--guidance", 4, "--negative", "coat"),
        ("--top-k", 1),
        ("--top-p", 0.1),
        ("--temperature", "0"),
        ("--choice-temperature", "40,40", "--sampler", "confidence", "--steps", 3),
        ("--set", "sampler.temperature=0"),
        ("--set", "sampler.name=remask", "--set", "sampler.eta=0.5", "--set", "guidance.scale=4"),
    ],
    ids=str,
)
def test_options_of_the_sampler_reach_it(options, run, tmp_path, capfd):
    grids = []
    for name, words in {
        "plain": options[:2] if "--negative" in options else (),
        "other": options,
    }.items():
        out = tmp_path / f"{name}.png"
        status, _, error = call(capfd, "sample", run, "--out", out, "--per-label", 4, *words)
        assert status == 0, error
        grids.append(pixels(out))
    assert (grids[0] != grids[1]).any()


def test_the_ends_of_an_interpolation_have_no_rounds_to_show(run, tmp_path, capfd):
    words = (
        "--other",
        "validation:5",
        "--num-frames",
        2,
        "--out",
        tmp_path / "two",
        "--strip",
        tmp_path / "strip.png",
    )
    status, lines, error = call(capfd, "edit", "interpolate", run, "validation:0", *words)
    assert status == 0 and len(lines) == 2 and "there are no rounds to show" in error


def test_what_is_transparent_in_a_mask_is_not_drawn(run, photo, tmp_path, capfd):
    strokes = np.zeros((16, 16, 4), np.uint8)
    strokes[4:8, 4:8] = 255  # white on nothing, as a layer of a paint program
    Image.fromarray(strokes, "RGBA").save(tmp_path / "layer.png")
    words = (
        "edit",
        "inpaint",
        run,
        photo,
        "--mask",
        tmp_path / "layer.png",
        "--label",
        1,
        "--out",
        tmp_path / "e.png",
    )
    status, _, error = call(capfd, *words)
    assert status == 0 and "layer.png" not in error and "grew" not in error
    different = pixels(tmp_path / "e.png") != pixels(photo)
    assert different[4:8, 4:8].any() and different.sum() <= 16


def test_rows_of_pairs_are_of_one_length(run, tmp_path, capfd):
    """Also where a picture is as grey as what stands for its hidden part."""
    for name, value in (("grey", 127), ("dark", 9)):
        Image.new("L", (16, 16), value).save(tmp_path / f"{name}.png")
    words = (
        tmp_path / "grey.png",
        tmp_path / "dark.png",
        "--label",
        0,
        "--box",
        "0,0,8,8",
        "--pairs",
        tmp_path / "p.png",
    )
    status, _, error = call(capfd, "edit", "inpaint", run, *words)
    assert status == 0, error


def test_a_file_of_another_size_is_refused_or_cut(run, tmp_path, capfd):
    path = tmp_path / "large.png"
    Image.new("RGB", (30, 21), "red").save(path)
    words = ("edit", "variation", run, path, "--label", 0, "--out", tmp_path / "v.png")
    status, _, error = call(capfd, *words)
    assert status == 2 and "the nearest size that can is 20x32 (--resize cuts it to 16x16)" in error
    assert call(capfd, *words, "--resize")[0] == 0 and pixels(tmp_path / "v.png").shape == (16, 16)


def test_with_resize_a_mask_is_of_the_size_of_its_image(run, tmp_path, capfd):
    for name, size in (("large", (32, 24)), ("mask", (32, 24)), ("other", (24, 24))):
        Image.new("L", size, "white").save(tmp_path / f"{name}.png")
    words = (
        "edit",
        "inpaint",
        run,
        tmp_path / "large.png",
        "--resize",
        "--label",
        0,
        "--out",
        tmp_path / "e.png",
    )
    status, _, error = call(capfd, *words, "--mask", tmp_path / "other.png")
    assert status == 2 and "other.png is 24x24" in error and "large.png 32x24 pixels" in error
    assert call(capfd, *words, "--mask", tmp_path / "mask.png")[0] == 0


def test_an_image_of_the_data_has_its_own_label_whatever_classes_are_called(run):
    pipeline = Pipeline.from_pretrained(run)
    pipeline.class_names = ("1", "2", "0")
    _, own = picture_of(pipeline, "validation:5", resize=False)
    for given, wanted in (({}, own), ({"other_label": "=2"}, 1)):
        request = Retouch(
            "interpolate", ["validation:0"], None, 0, 1, False, {"other": "validation:5", **given}
        )
        assert options_for(pipeline, request)["other_label"] == wanted
    assert own > 0, "class 0 or another that a name could be taken for"


def test_files_of_one_name_do_not_overwrite_each_other(run, photo, tmp_path, capfd):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / photo.name
    other.write_bytes(photo.read_bytes())
    status, lines, _ = call(
        capfd, "edit", "variation", run, photo, other, "--label", 0, "--out", tmp_path / "many"
    )
    assert status == 0 and [line.rpartition("/")[2] for line in lines] == [
        "photo_000000.png",
        "photo-2_000000.png",
    ]


def mirror(
    pipeline,
    image,
    *,
    label: int,
    seed: int = 0,
    axis: Annotated[int, Ge(1), "which way"] = 1,
    after: Annotated[torch.Tensor | None, "an image to follow it"] = None,
    after_label: Annotated[int | None, str, "its label"] = None,
    **options: Any,
):
    """An edit that no other file knows of."""
    frames = [
        image.flip(axis),
        *([] if after is None else [torch.full_like(image, 50 * after_label)]),
    ]
    nothing = torch.zeros(image.shape[1:], dtype=torch.bool)
    return [Edit(frame, image, torch.zeros(4, 4), nothing, []) for frame in frames]


def test_a_new_edit_is_one_function_and_one_line(run, photo, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(EDITS, "mirror", mirror)
    status, lines, _ = call(capfd, "edit", "--help")
    text = " ".join(" ".join(lines).split())
    assert status == 0 and "mirror: which way. [x>=1]" in text and "--after-label" in text
    words = ("edit", "mirror", run, photo, "--label", 0)
    assert call(capfd, *words, "--axis", 2, "--out", tmp_path / "m.png")[0] == 0
    assert (pixels(tmp_path / "m.png") == pixels(photo)[:, ::-1]).all()
    assert (
        call(capfd, *words, "--after", photo, "--after-label", "shoe", "--out", tmp_path / "two")[0]
        == 0
    )
    assert (pixels(tmp_path / "two" / "photo_000000_frame-1.png") == 100).all()
    status, _, error = call(capfd, *words, "--keep", 0.5, "--out", tmp_path / "m.png")
    assert status == 2 and "mirror has no --keep (known: --axis, --after, --after-label)" in error
    assert call(capfd, *words, "--axis", 0, "--out", tmp_path / "m.png")[0] == 2


def test_the_plan_has_a_job_for_each_image_and_seed(run, tmp_path):
    request = Retouch(
        "variation", ["validation:0", "validation:5"], "shoe", 7, 2, False, {"keep": 0.25}
    )
    jobs = plan(Pipeline.from_pretrained(run), request, Outputs(tmp_path / "many", None, Views()))
    names = [f"validation-{i}_00000{k}" for i in (0, 5) for k in (7, 8)]
    assert [job.name for job in jobs] == names and [job.seed for job in jobs] == [7, 8, 7, 8]
    assert all(
        job.label == 2 and job.options == {"keep": 0.25} and job.image.shape == (1, 16, 16)
        for job in jobs
    )


def test_what_cannot_be_met_is_refused_before_any_edit(run, tmp_path, monkeypatch):
    """Also where the last of several images is the one that is wrong."""
    pipeline = Pipeline.from_pretrained(run)
    monkeypatch.setattr(pipeline, "watch", lambda *_, **__: pytest.fail("an edit was begun"))
    request = Retouch("variation", ["validation:0", "nowhere.png"], "0", 0, 1, False)
    with pytest.raises(FileNotFoundError, match="no image nowhere.png"):
        retouch(pipeline, request, Outputs(tmp_path / "many", None, Views()))
    assert not (tmp_path / "many").exists()


WRONG = {
    "several.jpg: pictures are written as .png": (
        "variation",
        "validation:0",
        "--pairs",
        "several.jpg",
    ),
    "unknown edit 'inpant', did you mean 'inpaint'": ("inpant", "validation:0", "--out", "x.png"),
    "variation has no --box": ("variation", "validation:0", "--box", "0,0,4,4", "--out", "x.png"),
    "outpaint needs --margins": ("outpaint", "validation:0", "--out", "x.png"),
    "should be 4 numbers from 0 on": (
        "inpaint",
        "validation:0",
        "--box",
        "0,0,4",
        "--out",
        "x.png",
    ),
    "no image nowhere.png": ("variation", "nowhere.png", "--out", "x.png"),
    "photo.png has no label of its own: pass --label": ("variation", "photo.png", "--out", "x.png"),
    "there are 8 images, 0 to 7": ("variation", "validation:8", "--out", "x.png"),
    "say where the result goes": ("variation", "validation:0"),
    "several into a folder": ("variation", "validation:0", "validation:1", "--out", "x.png"),
    "broken.png is not an image": ("variation", "broken.png", "--label", "0", "--out", "x.png"),
    "no class 'cot', did you mean 'coat'": (
        "variation",
        "validation:0",
        "--label",
        "cot",
        "--out",
        "x.png",
    ),
    "heat.gif: this picture is written as .png": (
        "variation",
        "validation:0",
        "--confidence",
        "heat.gif",
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_mistake_is_one_clear_line_and_status_2(
    message, run, photo, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a png")
    what, *words = WRONG[message]
    status, lines, error = call(capfd, "edit", what, run, *words)
    assert status == 2 and lines == [] and "Traceback" not in error
    assert message in " ".join(error.split()) and not (tmp_path / "x.png").exists()

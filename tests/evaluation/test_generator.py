import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.data.npz import write_npz
from maskgit.evaluation import two_sample
from maskgit.evaluation.generator import evaluate
from maskgit.evaluation.metrics import METRICS, Metric
from maskgit.evaluation.report import write_report
from maskgit.evaluation.request import Evaluation
from tests.conftest import by_processes, cli, make_pipeline
from vqgan.classifier import Classifier


@pytest.fixture
def run_folder(tmp_path, image_folder, monkeypatch):
    """A saved tiny pipeline that knows its data, with a judge beside it."""
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    (image_folder / "train" / "coat").rename(image_folder / "train" / "t-shirt")
    (image_folder / "val" / "coat").rename(image_folder / "val" / "t-shirt")
    pipeline = make_pipeline(class_names=("bag", "t-shirt"))
    pipeline.data = {
        "source": {"name": "folder", "root": str(image_folder)}, "image_size": 16, "channels": 1,
    }  # fmt: skip
    pipeline.save_pretrained(tmp_path / "run")
    torch.manual_seed(0)
    judge = Classifier(channels=1, num_classes=2, width=8)
    judge.save(
        tmp_path / "classifier" / "classifier.safetensors",
        {"class_names": ["bag", "t-shirt"], "accuracy": 0.9},
    )
    return tmp_path / "run"


@pytest.fixture
def one_thread():
    """As many threads as each of several processes has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(folder):
    return json.loads((folder / "results.json").read_text())["numbers"]


def test_a_run_is_measured_and_every_number_says_how(run_folder, capfd):
    assert cli("evaluate", run_folder, "--count", 110, "--steps", 2, "--guidance", 1.5) == 0
    out = capfd.readouterr().out
    results = json.loads((run_folder / "evaluation" / "results.json").read_text())
    keys = {
        "fid",
        "kid",
        "inception_score",
        "precision",
        "recall",
        "density",
        "coverage",
        "class_agreement",
    }
    assert set(results["numbers"]) == keys | {"nearest_distance", "rfid", "bits_per_code"}
    assert all(key in out for key in results["numbers"])
    assert results["samples"]["sampler"] == {"name": "confidence", "steps": 2}
    assert results["samples"]["guidance"]["scale"] == 1.5 and results["samples"]["count"] == 110
    assert results["reference"]["set"].endswith("/train") and results["reference"]["count"] == 24
    assert results["features"]["sha256"] == results["judge"]["sha256"] and "90.00%" in out
    assert results["floor"].startswith("8 real images of ") and results["floor"].endswith(
        "(FEWER than the samples)"
    )
    assert results["held out"]["set"].endswith("/validation") and results["held out"]["count"] == 8
    assert {"model", "tokenizer"} == set(results["weights"])
    assert len(results["by class"]) >= 2 and "furthest class: " in out
    assert all({"shift", "agreement"} == set(numbers) for numbers in results["by class"].values())
    fid = results["numbers"]["fid"]
    assert fid["floor"] > 0 and fid["half_width"] > 0 and fid["better"] == "lower"
    assert 0 < results["numbers"]["bits_per_code"]["value"] < 12
    row = (run_folder / "evaluation" / "results.md").read_text().splitlines()
    assert (
        len(row) == 4
        and len({line.count("|") for line in row}) == 1
        and row[3].startswith("| real images |")
    )
    for name in ("samples.png", "neighbours.png"):
        with Image.open(run_folder / "evaluation" / name) as picture:
            assert picture.width > 300


def test_evaluate_returns_its_results_and_writes_nothing(run_folder, tmp_path):
    before = sorted(run_folder.rglob("*"))
    request = Evaluation(run=run_folder, count=6, metrics=("fid",), options={"steps": 2})
    results = evaluate(request)
    assert sorted(run_folder.rglob("*")) == before and list(results.numbers) == ["fid"]
    assert list(results.pictures) == ["samples.png", "neighbours.png"]
    table = write_report(results, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results.as_json()
    assert all(str(path) in table for path in (tmp_path / "out").iterdir())
    assert evaluate(replace(request, pictures=False)).pictures == {}


def test_a_new_metric_is_one_line_of_the_table(run_folder, monkeypatch):
    """What it needs is said there, and no other place knows its name."""

    def share_of_zeros(_, fake):
        return {"zeros": (fake.labels == 0).double().mean().item()}

    entry = Metric(
        share_of_zeros, ("fake", "fake"), "higher", numbers=("zeros",), needs=("labels",)
    )
    monkeypatch.setitem(METRICS, "zeros", entry)
    request = Evaluation(
        run=run_folder, count=12, metrics=("zeros",), options={"steps": 2}, pictures=False
    )
    assert evaluate(request).numbers["zeros"][:3:2] == (0.5, 0.5), (
        "of the samples, and of real images"
    )
    monkeypatch.setitem(METRICS, "zeros", entry._replace(least=13))
    with pytest.raises(ValueError, match="zeros: needs 13 images"):
        evaluate(request)
    unlabelled = Evaluation(
        samples=run_folder / "s", reference=str(run_folder / "s"), metrics=("zeros",)
    )
    (run_folder / "s").mkdir()
    Image.new("L", (16, 16)).save(run_folder / "s" / "a.png")
    monkeypatch.setitem(METRICS, "zeros", entry)
    with pytest.raises(ValueError, match="zeros: the samples' labels are not known"):
        evaluate(unlabelled)


def test_several_kinds_of_features_are_measured_side_by_side(run_folder, tmp_path, capfd):
    """Each number is what the network alone gives; the first one's names stay plain."""
    torch.manual_seed(1)
    witness = Classifier(channels=1, num_classes=2, width=16)
    witness.save(
        tmp_path / "witness" / "classifier.safetensors", {"class_names": ["bag", "t-shirt"]}
    )
    both = Evaluation(
        run=run_folder, count=30, options={"steps": 2},
        metrics=("fid", "prdc", "agreement", "rfid"), features="classifier, witness",
    )  # fmt: skip
    results = evaluate(both)
    alone = {
        "": evaluate(replace(both, features="classifier")).numbers,
        "_witness": evaluate(replace(both, features="witness")).numbers,
    }
    numbers = results.numbers
    for name in ("fid", "precision", "recall", "density", "coverage", "rfid"):
        for kind, found in alone.items():
            wanted = (found[name].value, found[name].floor or 0)
            given = (numbers[name + kind].value, numbers[name + kind].floor or 0)
            assert given == pytest.approx(wanted, rel=1e-5, abs=1e-7), name + kind
    assert numbers["fid"].value != pytest.approx(numbers["fid_witness"].value, rel=0.01)
    assert numbers["class_agreement"] == alone[""]["class_agreement"]
    assert "class_agreement_witness" not in numbers and len(numbers) == 2 * 6 + 2
    fids = [numbers["fid"], numbers["fid_witness"]]
    assert numbers["worst_fid"].value == max(one.value / one.floor for one in fids)
    assert set(results.pictures) == {"samples.png", "neighbours.png"}
    assert [one["network"] for one in results.about["features"]["networks"]] == [
        "classifier",
        "witness",
    ]
    [line] = [
        line
        for line in write_report(results, tmp_path / "out").splitlines()
        if line.startswith("features")
    ]
    assert " + network witness, sha256 " in line and "{" not in line


def test_the_two_sample_test_is_measured_where_it_is_named(run_folder, tmp_path, monkeypatch):
    """Of an untrained model, against noise, and against what its own tokenizer makes of noise."""
    monkeypatch.setattr(two_sample, "STEPS", 75)
    noise = torch.randint(0, 256, (230, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    reference = write_npz(tmp_path / "noise.npz", [noise.byte()], noise.shape, [0] * 230)
    request = Evaluation(
        run=run_folder, reference=str(reference), count=220, options={"steps": 2},
        metrics=("c2st", "c2st_reconstructions"), pictures=False,
    )  # fmt: skip
    results = evaluate(request)
    found = results.numbers
    assert list(found) == ["c2st", "c2st_reconstructions"] and results.about["features"] is None
    assert results.about["two-sample test"]["images of either side"] == 220
    assert found["c2st"].value == 1.0 and found["c2st"].half_width == 0
    assert 0.5 < found["c2st_reconstructions"].value <= 1
    assert evaluate(replace(request, batch_size=37)).numbers == found, "whatever the batches"
    quick = evaluate(replace(request, metrics=(), count=50))
    assert "c2st" not in quick.numbers
    assert any("c2st: trains a net" in note for note in quick.notes)


def test_same_seed_same_numbers_and_another_seed_others(run_folder):
    for name, seed in (("a", 0), ("b", 0), ("c", 7)):
        options = (
            "--seed",
            seed,
            "--steps",
            2,
            "--metrics",
            "fid,bits",
            "--out",
            run_folder / name,
        )
        assert cli("evaluate", run_folder, "--count", 12, *options) == 0
    a, b, c = (numbers(run_folder / name) for name in "abc")
    assert a == b and a["fid"] != c["fid"] and a["bits_per_code"] != c["bits_per_code"]


def test_a_negative_label_changes_the_samples_and_is_in_the_results(run_folder):
    options = ("--count", 12, "--steps", 2, "--guidance", 3, "--metrics", "fid")
    for name, more in (("a", ()), ("b", ("--negative", "t-shirt"))):
        assert cli("evaluate", run_folder, *options, *more, "--out", run_folder / name) == 0
    about = [
        json.loads((run_folder / name / "results.json").read_text())["samples"] for name in "ab"
    ]
    assert "negative" not in about[0] and about[1]["negative"] == "t-shirt"
    assert numbers(run_folder / "a")["fid"] != numbers(run_folder / "b")["fid"]


def test_samples_of_another_program(run_folder, capfd):
    """The npz that `sample` writes, and a folder of its PNGs, give the numbers of the run
    itself."""
    options = ("--labels", "0,1", "--per-label", 6, "--steps", 2)
    assert cli("sample", run_folder, "--out", run_folder / "s.npz", *options) == 0
    assert cli("sample", run_folder, "--out", run_folder / "pngs", *options) == 0
    wanted = (
        "--metrics",
        "fid,agreement",
        "--judge",
        run_folder.parent / "classifier",
        "--features",
        "classifier",
    )
    reference = ("--reference", run_folder / "data.yaml")
    data = json.loads((run_folder / "config.json").read_text())["data"]
    (run_folder / "data.yaml").write_text(json.dumps({"task": "tokenizer", "data": data}))
    found = []
    for samples in ("s.npz", "pngs"):
        out = run_folder / f"of {Path(samples).stem}"
        assert (
            cli("evaluate", "--samples", run_folder / samples, *reference, *wanted, "--out", out)
            == 0
        )
        found.append(numbers(out))
    assert found[0] == found[1] and 0 <= found[0]["class_agreement"]["value"] <= 1
    with (
        np.load(run_folder / "s.npz") as file,
        Image.open(run_folder / "pngs" / "001_t-shirt_000009.png") as png,
    ):
        assert np.array_equal(file["arr_0"][9, ..., 0], np.asarray(png))
    # without a held-out split, the floor is a part of the reference against the rest
    out = run_folder / "halves"
    assert (
        cli(
            "evaluate",
            "--samples",
            run_folder / "s.npz",
            "--reference",
            run_folder / "pngs",
            *wanted,
            "--out",
            out,
        )
        == 0
    )
    assert json.loads((out / "results.json").read_text())["floor"].startswith("6 real images of ")


WRONG = {
    (): "evaluate either a run or --samples",
    ("nowhere",): "no generator in nowhere",
    ("RUN", "--metrics", "fdi"): "unknown metric 'fdi', did you mean 'fid'",
    ("RUN", "--features", "incepton"): "unknown feature network 'incepton', did you mean 'inception'",
    ("RUN", "--features", "inception", "--weights", "nowhere.pth"): "no weights at nowhere.pth",
    ("RUN", "--judge", "nowhere"): "no classifier at nowhere",
    ("RUN", "--guidance", "3", "--negative", "boot"): "no class 'boot'",
    ("RUN", "--guidance", "1", "--negative", "bag"): "works through guidance, whose scale is 1",
    ("RUN", "--split", "test"): "split is one of train, validation",
    ("RUN", "--metrics", "prdc", "--count", "6"): "prdc: needs 7 images at least on either side",
    ("--samples", "x.npz", "--count", "6"): "say what a run draws",
    ("--samples", "nowhere", "--reference", "mnist/vqgan"): "no samples at nowhere",
    ("--samples", "x.npz"): "pass --reference",
    ("--samples", "RUN", "--reference", "mnist/maskgit"): "mnist/maskgit has no data section",
    ("--samples", "IMAGES", "--reference", "mnist/vqgan", "--features", "inception"): "holds images of 16x16, the reference is 28x28",
    ("--samples", "IMAGES", "--reference", "IMAGES", "--metrics", "bits"): "bits: needs a run",
}  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(
    arguments, run_folder, image_folder, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = [
        {"RUN": run_folder, "IMAGES": image_folder / "val"}.get(word, word) for word in arguments
    ]
    if "IMAGES" in arguments and "inception" not in arguments:
        words += ["--features", "classifier", "--weights", tmp_path / "classifier"]
    assert cli("evaluate", *words) == 2
    error = capfd.readouterr().err
    assert WRONG[arguments] in error and "Traceback" not in error
    assert not (tmp_path / "evaluation").exists() and not (run_folder / "evaluation").exists()


@pytest.mark.slow
def test_two_processes_equal_one(run_folder, one_thread):
    """The same numbers, the same file and the same folder of samples, whatever the number of
    processes."""
    commands = {
        "evaluate": ["--count", "31", "--steps", "2", "--batch-size", "4", "--out"],
        "sample": ["--per-label", "5", "--steps", "2", "--batch-size", "4", "--out"],
        "compare_samplers": ["--samplers", "random", "--rounds", "2", "--count", "120", "--out"],
    }
    commands["sample_classes"] = commands["sample"]
    outs = {
        "evaluate": "",
        "sample": ".npz",
        "sample_classes": "-images",
        "compare_samplers": "-compared",
    }
    for command, options in commands.items():
        out = run_folder / f"one{outs[command]}"
        assert cli(command.split("_")[0], run_folder, *options, out) == 0
        out = run_folder / f"two{outs[command]}"
        said = by_processes(2, f"scripts/{command}.py", run_folder, *options, out)
        assert said.count(str(out)) >= 1
    for folder in ("", "-compared/random-2"):
        one, two = (numbers(run_folder / f"{name}{folder}") for name in ("one", "two"))
        assert one.keys() == two.keys()
        for key in one:  # sums in another order
            assert one[key]["value"] == pytest.approx(two[key]["value"], rel=1e-7, abs=1e-9), key
    assert (run_folder / "two-compared" / "samplers.png").is_file()
    with np.load(run_folder / "one.npz") as a, np.load(run_folder / "two.npz") as b:
        assert np.array_equal(a["arr_0"], b["arr_0"]) and np.array_equal(a["arr_1"], b["arr_1"])
    one, two = (sorted((run_folder / f"{name}-images").glob("*.png")) for name in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two] and len(one) == 10
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


@pytest.mark.slow
def test_two_processes_tell_apart_what_one_does(run_folder, one_thread, tmp_path):
    """The two-sample test's images, and several kinds of features."""
    noise = torch.randint(0, 256, (70, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    reference = write_npz(tmp_path / "noise.npz", [noise.byte()], noise.shape, [0] * 70)
    judge = Classifier(channels=1, num_classes=2, width=16)
    judge.save(tmp_path / "witness" / "classifier.safetensors", {})
    options = [
        "--reference", reference, "--count", "50", "--steps", "2", "--batch-size", "8",
        "--metrics", "c2st_reconstructions,fid", "--features", "classifier,witness", "--out",
    ]  # fmt: skip
    assert cli("evaluate", run_folder, *options, run_folder / "one") == 0
    by_processes(2, "scripts/evaluate.py", run_folder, *options, run_folder / "two")
    one, two = (numbers(run_folder / name) for name in ("one", "two"))
    assert list(one) == ["c2st_reconstructions", "fid", "fid_witness", "worst_fid"]
    for name, number in one.items():
        assert number["value"] == pytest.approx(two[name]["value"], rel=1e-5), name


def test_rfid_and_bits_are_of_the_validation_split_whatever_the_reference(run_folder):
    """Also where the training images are not the reference."""
    found = {}
    for split in ("train", "validation"):
        out = run_folder / split
        assert (
            cli(
                "evaluate",
                run_folder,
                "--count",
                12,
                "--metrics",
                "fid,rfid,bits",
                "--split",
                split,
                "--out",
                out,
            )
            == 0
        )
        found[split] = json.loads((out / "results.json").read_text())
    assert found["train"]["held out"] == found["validation"]["held out"]
    for name in ("rfid", "bits_per_code"):
        assert found["train"]["numbers"][name] == found["validation"]["numbers"][name]
    assert found["train"]["numbers"]["fid"] != found["validation"]["numbers"]["fid"]


def test_a_judge_of_other_classes_is_refused(run_folder, tmp_path, capfd):
    judge = Classifier(channels=1, num_classes=2, width=8)
    judge.save(tmp_path / "other" / "classifier.safetensors", {"class_names": ["cat", "dog"]})
    assert cli("evaluate", run_folder, "--count", 12, "--judge", tmp_path / "other") == 2
    assert "the judge knows cat, dog" in capfd.readouterr().err

"""Kill -9 at any moment, the same command again: bit-identical weights, optimiser and averages; what
a resumed run may change, and what a new one takes from another."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskgit.config.loading import parse, to_dict
from maskgit.config.sections import AdversarialConfig
from maskgit.data.tokenization import tokenize_dataset
from maskgit.training.checkpoints import load_latest
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import Training, train
from tests.conftest import by_processes, cli, launched, repo
from tests.training.conftest import changed
from vqgan import discriminator, quantizers
from vqgan.weights import load_weights

JUDGE = AdversarialConfig(
    discriminator={"name": "patchgan", "width": 8, "num_layers": 1}, start_step=1, lecam=0.1,
    r1=1.0, r1_every=2, augment=True,
)  # fmt: skip


def judged(config):
    """With a discriminator."""
    loss = config.loss.model_copy(update={"adversarial": JUDGE})
    return config.model_copy(update={"loss": loss})


def drive(tmp_path, config, *words, script="resume_driver.py"):
    path = tmp_path / f"{config.task}.json"
    path.write_text(json.dumps(to_dict(config)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    driver = str(repo() / "tests" / "training" / script)
    command = [sys.executable, driver, str(path), str(scratch), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("task", ["tokenizer", "maskgit"])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, tiny_configs, task, processes):
    vqgan, generator = tiny_configs
    if task == "maskgit":
        train(vqgan)
        tokenize_dataset(vqgan.run, generator.codes)
    vqgan = changed(vqgan, model={"channels_last": processes == 2})
    results = drive(tmp_path, judged(vqgan) if task == "tokenizer" else generator, processes)
    truth = results.pop("undisturbed")
    assert truth.pop("ended") == 0
    killed = [name for name, result in results.items() if result.pop("ended") in (-9, 143)]
    missed = {"while a generator is exported"} if task == "tokenizer" else set()
    assert set(results) - set(killed) == missed, "every moment must come"
    for name, result in results.items():
        assert result == truth, name
    assert truth["step"] == "step_00000006" and truth["leftovers"] == []


def test_processes_go_on_from_what_the_main_one_finds_or_name_both(tmp_path):
    driver = str(repo() / "tests" / "training" / "agreed_driver.py")
    found = json.loads(by_processes(2, driver, tmp_path).splitlines()[-1])
    same = {name: one for name, (one, _) in found.items() if not isinstance(one, str)}
    assert same == {
        "the same": 4, "one more": 4, "none": None, "the newest is broken": 2, "none suits": None,
    }  # fmt: skip
    for name, (one, other) in found.items():
        own = f"{tmp_path / name}/"  # each has a folder of its own
        assert str(one).replace(f"{own}0", f"{own}1") == str(other).replace(f"{own}0", f"{own}1")
    hashed = r"step_0000000{} \([0-9a-f]{{12}}\)"
    saw = {
        "one less": (hashed.format(2), hashed.format(4)),
        "other weights": (hashed.format(4), hashed.format(4)),
        "only the main one": ("no checkpoint", hashed.format(4)),
        "only the other one": (hashed.format(4), "no checkpoint"),
    }
    for name, (theirs, mains) in saw.items():
        pattern = f"process 1 sees {theirs} of .* where process 0 has {mains}: it must lie on"
        assert re.match(pattern, found[name][0]), found[name]
    assert "none of the 1 checkpoints of" in found["all are broken"][1]


QUANTIZERS = {
    "vq": {"codebook_size": 16, "codebook_dim": 4},
    "rvq": {"codebook_size": 16, "codebook_dim": 4},
    "sim_vq": {"codebook_size": 16, "codebook_dim": 4},
    "fsq": {"levels": [4, 4]},
    "lfq": {"codebook_size": 16},
    "bsq": {"codebook_size": 16},
}
DISCRIMINATORS = {
    "patchgan": {"name": "patchgan", "width": 8, "num_layers": 1},
    "stylegan": {"name": "stylegan", "width": 8},
}


def test_every_quantizer_and_discriminator_is_tried():
    assert QUANTIZERS.keys() == quantizers.QUANTIZERS.keys()
    assert DISCRIMINATORS.keys() == discriminator.DISCRIMINATORS.keys()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("judge", DISCRIMINATORS)
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_tokenizer_goes_on_with_the_same_bits(
    tiny_configs, monkeypatch, quantizer, judge, channels_last
):
    options = {"name": quantizer, **QUANTIZERS[quantizer]}
    adversarial = {"discriminator": DISCRIMINATORS[judge], "start_step": 1, "lecam": 0.1}
    config = changed(
        tiny_configs[0],
        model={"quantizer": options, "channels_last": channels_last},
        loss={"adversarial": adversarial},
        train={"eval_every": 9, "learning_rate": 1e-2},
    )
    train(config)
    other, real = changed(config, run=config.run + "-killed"), Training.one_step

    def killed(training, parts):
        if training.step == 3:
            raise ProcessLookupError("killed")
        real(training, parts)

    with monkeypatch.context() as patch, pytest.raises(ProcessLookupError):
        patch.setattr(Training, "one_step", killed)
        train(other)
    assert load_latest(Path(other.run)).step == 2
    train(other)
    one, two = (load_latest(Path(run.run)).tensors for run in (config, other))
    assert one.keys() == two.keys()
    for name, tensors in one.items():
        assert tensors.keys() == two[name].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, two[name][key]), (name, key)


def test_a_tokenizer_goes_on_by_another_number_of_processes(tmp_path, tiny_configs):
    """Of as many images a step: with the same losses, its own and its judge's, up to rounding."""
    adversarial = {"discriminator": DISCRIMINATORS["patchgan"], "start_step": 1, "lecam": 0.1}
    whole = changed(
        tiny_configs[0],
        model={"quantizer": {"name": "fsq", "levels": [4, 4]}},
        loss={"adversarial": adversarial},
        train={"final_share": 1.0, "log_every": 1},
    )

    def part(way, steps):
        return changed(whole, run=f"{whole.run}-{way}", train={"steps": steps})

    train(whole)
    train(part("more", 3))
    paths = [tmp_path / "less.json", tmp_path / "more.json"]
    for path, config in zip(paths, (part("less", 3), part("more", 6)), strict=True):
        path.write_text(json.dumps(to_dict(config)))
    by_processes(2, str(repo() / "tests" / "training" / "train_driver.py"), *paths)
    train(part("less", 6))
    truth = [row for row in read_metrics(Path(whole.run) / "metrics.jsonl") if "loss" in row]
    assert len(truth) == 6 and "discriminator_loss" in truth[-1]
    for way in ("less", "more"):
        path = Path(part(way, 6).run) / "metrics.jsonl"
        found = [row for row in read_metrics(path) if "loss" in row]
        for row, wanted in zip(found, truth, strict=True):
            for key in ("loss", "gradient_norm", "discriminator_loss", "adversarial_weight"):
                assert row.get(key, 0) == pytest.approx(wanted.get(key, 0), rel=1e-3), (way, key)


def test_a_step_that_cannot_be_shared_out_is_refused_in_one_line(tiny_configs, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(to_dict(changed(tiny_configs[0], train={"steps": 2, "batch_size": 7})))
    )
    assert cli("train", path) == 0
    for status, said in launched(2, "train", path, "train.steps=4", seconds=200):
        assert status == 2 and "Traceback" not in said
        lines = [line for line in said.splitlines() if line.startswith("maskgit: ")]
        assert len(lines) <= 1 and all("by 2 processes x accumulate=1" in line for line in lines)


SAVED = {
    "before a step": "step_00000003",
    "before gradients are exchanged": "step_00000003",
    "before the optimiser": "step_00000003",
    "after the optimiser": "step_00000002",  # it cannot be known what the averages hold
    "in an evaluation": "step_00000003",
    "before a save": "step_00000004",
    "the main one, before a step": "step_00000002",
}


@pytest.mark.slow
def test_where_one_of_two_processes_is_killed_the_other_saves_the_last_whole_step(
    tmp_path, tiny_configs
):
    found = drive(tmp_path, judged(tiny_configs[0]), script="lost_driver.py")
    assert {name: one["steps"][-1] for name, one in found["moments"].items()} == SAVED
    for name, one in found["moments"].items():
        # as torchrun does, SIGTERM follows, which may come when the line has been said
        assert one["victim"] == -9 and one["status"] in (2, -15), one
        assert one["seconds"] < 10, name
        lines = [line for line in one["said"].splitlines() if line.startswith("maskgit: ")]
        assert one["said"].count("Traceback") == 0 and len(lines) == 1, one["said"]
        assert "another process of this training is gone" in lines[0]
        assert one["end"] == found["whole"], name


@pytest.mark.slow
def test_torchrun_starts_killed_processes_again_and_they_end_with_the_same_bits(
    tmp_path, tiny_configs
):
    """Its store still has the addresses of the dead ones, which gloo took for the new ones'."""
    killed = changed(tiny_configs[0], run=tiny_configs[0].run + "-killed")
    paths = [tmp_path / "whole.json", tmp_path / "killed.json"]
    for path, config in zip(paths, (tiny_configs[0], killed), strict=True):
        path.write_text(json.dumps(to_dict(config)))
    training = repo() / "tests" / "training"
    by_processes(2, str(training / "train_driver.py"), paths[0])
    by_processes(2, "--max-restarts=1", str(training / "restart_driver.py"), paths[1])
    one, other = (load_latest(Path(config.run)).tensors for config in (tiny_configs[0], killed))
    for file, tensors in one.items():
        assert all(torch.equal(tensor, other[file][name]) for name, tensor in tensors.items())


@pytest.mark.slow
def test_one_weight_that_drifts_apart_stops_both_processes_at_the_next_check(
    tmp_path, tiny_configs
):
    found = drive(tmp_path, tiny_configs[0], "drift", script="lost_driver.py")
    assert (found["victim"], found["status"], found["steps"]) == (1, 1, [])
    wanted = r"weights of process 1 are not those of process 0 at step 5 \(tokenizer\.encoder"
    assert re.search(wanted, found["said"]), found["said"]


@pytest.fixture
def stages(tiny_configs, image_folder):
    """Configs of tokenizer, generator and classifier of a few steps, the codes made."""
    few = {"steps": 2, "save_every": 1, "eval_every": 9, "preview_every": 9}
    vqgan, generator = (changed(config, train=few) for config in tiny_configs)
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    judge = {
        "task": "classifier",
        "run": str(Path(vqgan.run).with_name("judge")),
        "data": to_dict(vqgan)["data"],
        "model": {"width": 8},
        "train": to_dict(vqgan)["train"],
    }
    return {"tokenizer": vqgan, "maskgit": generator, "classifier": parse(judge, "judge")}


def test_a_run_its_data_its_tokenizer_and_its_codes_may_move(stages, tmp_path, image_folder):
    vqgan, generator = stages["tokenizer"], stages["maskgit"]
    train(generator)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    places = [Path(vqgan.run), Path(generator.run), Path(generator.codes), image_folder]
    moved = {str(path): str(shutil.move(path, elsewhere)) for path in places}
    data = to_dict(vqgan)["data"] | {"source": {"name": "folder", "root": moved[str(image_folder)]}}
    train(changed(vqgan, run=moved[vqgan.run], data=data, train={"steps": 3}))
    train(changed(vqgan, run=moved[vqgan.run], data=data, train={"steps": 3}))
    assert load_latest(Path(moved[vqgan.run])).step == 3
    weights = Path(moved[vqgan.run]) / "tokenizer.safetensors"
    there = {"tokenizer": moved[vqgan.run], "codes": moved[generator.codes]}
    with pytest.raises(ValueError, match="was made by tokenizer"):  # it was trained on
        train(changed(generator, run=moved[generator.run], **there))
    assert weights.is_file()


def test_a_generator_goes_on_where_tokenizer_and_codes_lie_now(stages, tmp_path):
    generator = stages["maskgit"]
    train(generator)
    there = {}
    for key in ("run", "tokenizer", "codes"):
        there[key] = str(tmp_path / "b" / key)
        shutil.copytree(getattr(generator, key), there[key])
    train(changed(generator, **there, train={"steps": 3}))
    assert load_latest(Path(there["run"])).step == 3
    manifest = Path(there["codes"]) / "manifest.json"
    shutil.copy(Path(generator.codes) / "train-00000.safetensors", tmp_path)
    manifest.write_text(manifest.read_text().replace("maskgit-codes-1", "maskgit-codes-0"))
    with pytest.raises(ValueError, match="manifest"):
        train(changed(generator, **there, train={"steps": 4}))


def test_other_images_are_refused_wherever_they_lie(stages, tmp_path, image_folder):
    vqgan = stages["tokenizer"]
    other = tmp_path / "other"
    shutil.copytree(image_folder, other)
    (other / "train" / "bag" / "00.png").rename(other / "train" / "bag" / "new.png")
    data = to_dict(vqgan)["data"] | {"source": {"name": "folder", "root": str(other)}}
    with pytest.raises(ValueError, match=r"trained on other images .*init_from"):
        train(changed(vqgan, data=data, train={"steps": 3}))


RENAMES = {
    "renamed": lambda folder: (folder / "bag").rename(folder / "hat"),
    "added": lambda folder: shutil.copytree(folder / "bag", folder / "hat"),
    "removed": lambda folder: shutil.rmtree(folder / "coat"),
}


@pytest.mark.parametrize("change", RENAMES)
def test_other_classes_are_refused_with_both_lists(stages, image_folder, change):
    judge = stages["classifier"]
    train(judge)
    for split in ("train", "val"):
        RENAMES[change](image_folder / split)
    with pytest.raises(
        ValueError, match=r"was trained on other classes \(\[.*\] of 2 -> \["
    ) as error:
        train(changed(judge, train={"steps": 3}))
    assert "delete" not in str(error.value) and "init_from" in str(error.value)


def module_of(config):
    """The trained tensors of a run's newest checkpoint."""
    tensors = load_latest(Path(config.run)).tensors
    return next(values for name, values in tensors.items() if name.endswith(".module"))


@pytest.mark.parametrize("task", ["tokenizer", "maskgit", "classifier"])
def test_a_new_run_starts_from_the_weights_of_another(stages, task, capsys):
    """Which are its averaged ones; with a rate of almost nothing they stay."""
    config = stages[task]
    exported = train(config)
    path = exported / "model.safetensors" if task == "maskgit" else exported
    still = {"learning_rate": 1e-30, "steps": 1, "weight_decay": 0.0}
    new = changed(config, run=config.run + "-new", init_from=config.run, train=still)
    train(new)
    assert "start anew" not in capsys.readouterr().err
    _, wanted = load_weights(path, "maskgit" if task == "maskgit" else task)
    found = module_of(new)
    frozen = [name for name in found if "_codebook" not in name]
    assert all(torch.equal(found[name], wanted[name]) for name in frozen)
    shutil.rmtree(config.run)
    train(changed(new, train=still | {"steps": 2}))  # the other run may be gone by then


def test_rows_of_classes_go_to_the_classes_of_the_same_names(stages, image_folder, capsys):
    judge = stages["classifier"]
    before = load_weights(train(judge), "classifier")[1]
    for split in ("train", "val"):
        shutil.copytree(image_folder / split / "bag", image_folder / split / "ant")
    still = {"learning_rate": 1e-30, "steps": 1, "weight_decay": 0.0}
    new = changed(judge, run=judge.run + "-new", init_from=judge.run, train=still)
    train(new)
    rows = module_of(new)["to_logits.weight"]  # ant, bag, coat
    assert len(rows) == 3 and torch.equal(rows[1:], before["to_logits.weight"])


def test_what_does_not_fit_starts_anew_and_is_named(stages, capsys):
    vqgan = stages["tokenizer"]
    wider = changed(vqgan, run=vqgan.run + "-wide", init_from=vqgan.run, model={"widths": [8, 16]})
    train(wider)
    assert "start anew" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no tokenizer at"):
        train(changed(wider, run=vqgan.run + "-none", init_from="nowhere"))

"""Steps that are not finite: skipped exactly, on all ranks together; a divergence goes back once."""

import json
from pathlib import Path

import pytest
import torch

from maskgit.config.loading import to_dict
from maskgit.data.tokenization import tokenize_dataset
from maskgit.training.checkpoints import load_latest
from maskgit.training.tasks import TASKS
from maskgit.training.tasks.reconstruction import Comparison
from maskgit.training.trainer import train
from tests.conftest import as_an_accelerator, by_processes, repo
from tests.faults.conftest import cases
from tests.training.conftest import changed

pytestmark = pytest.mark.faults
LONG_RUN = {"eval_every": 1000, "preview_every": 1000, "log_every": 1000}


def given_up(run):
    path = Path(run) / "given_up.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def poison(monkeypatch, task, steps, where="images"):
    """Make numbers of some steps NaN: images, or the loss after the codebook has moved."""
    kind = TASKS[task]
    if where == "images":
        real = kind._images
        monkeypatch.setattr(kind, "_images", lambda self, b: real(self, b) * factor(self))
        update = kind.update

        def noted(self, step, parts):
            self.poisoned = step in steps
            return update(self, step, parts)

        def factor(self):
            return float("nan") if getattr(self, "poisoned", False) else 1.0

        monkeypatch.setattr(kind, "update", noted)
        return
    real_loss, update, now = Comparison.__call__, kind.update, {"bad": False}

    def noted_too(self, step, parts):
        now["bad"] = step in steps
        return update(self, step, parts)

    def lost(self, images, targets):
        found = real_loss(self, images, targets)
        return found._replace(loss=found.loss * float("nan")) if now["bad"] else found

    monkeypatch.setattr(kind, "update", noted_too)
    monkeypatch.setattr(Comparison, "__call__", lost)


@pytest.mark.parametrize("where", ["images", "loss"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("late", [False, True])
def test_bad_steps_are_skipped_exactly_and_the_codebook_lives(
    tiny_configs, monkeypatch, where, accumulate, late, tally
):
    if late:
        as_an_accelerator(monkeypatch)
    steps = cases(40, 200)
    bad = set(range(3, steps, steps // 20 if steps > 100 else 5))
    config = changed(
        tiny_configs[0],
        train={**LONG_RUN, "steps": steps, "save_every": steps, "accumulate": accumulate},
    )
    poison(monkeypatch, "tokenizer", bad, where)
    train(config)
    found = given_up(config.run)
    assert all(len(row["images"]) == 8 and row["images"][0].endswith(".png") for row in found)
    tensors = load_latest(Path(config.run)).tensors["tokenizer.module"]
    assert all(v.isfinite().all() for v in tensors.values())
    assert tensors["quantizer.vq._codebook.cluster_size"].gt(0).sum() > 8, "the codebook lives"
    right = {row["step"] for row in found} & bad
    assert len(found) == len(bad)
    tally(f"NaN batches: {where}, {accumulate} parts", len(right), len(bad))


DISCRIMINATORS = [
    None,
    {"name": "patchgan", "width": 8, "num_layers": 1},
    {"name": "stylegan", "width": 8, "num_layers": 1},
]


@pytest.mark.parametrize("discriminator", DISCRIMINATORS, ids=str)
@pytest.mark.parametrize("where", ["images", "loss"])
@pytest.mark.parametrize("late", [False, True])
def test_a_skipped_step_changes_nothing(tiny_configs, monkeypatch, late, where, discriminator):
    """A run whose last step is bad ends with the weights of the step before: of both nets, of the
    moving averages, of their optimisers and of the discriminator's averages."""
    if late:
        as_an_accelerator(monkeypatch)
    options = {"discriminator": discriminator, "start_step": 1, "lecam": 0.1, "r1": 1.0}
    config = changed(
        tiny_configs[0],
        train={**LONG_RUN, "steps": 4, "save_every": 3},
        loss={"adversarial": options} if discriminator else {},
    )
    poison(monkeypatch, "tokenizer", {3}, where)
    train(config)
    before, after = (load_latest_of(Path(config.run), step) for step in (3, 4))
    assert before.keys() == after.keys() and len(before) == (5 if discriminator else 3)
    for part, values in before.items():
        assert values.keys() == after[part].keys()
        for name, value in values.items():
            assert torch.equal(value, after[part][name]), (part, name)


def load_latest_of(run, step):
    from safetensors.torch import load_file

    folder = run / "checkpoints" / f"step_{step:08d}"
    return {path.stem: load_file(path) for path in folder.glob("*.safetensors")}


def test_ten_bad_steps_in_a_row_go_back_once_and_then_stop(tiny_configs, monkeypatch, capsys):
    config = changed(tiny_configs[0], train={**LONG_RUN, "steps": 60, "save_every": 5})
    poison(monkeypatch, "tokenizer", set(range(12, 22)) | set(range(40, 50)))
    with pytest.raises(FloatingPointError, match=r"not finite at step 50, .*step_00000040"):
        train(config)
    said = capsys.readouterr().err
    assert said.count("going on from the weights of step 10") == 1
    assert len(given_up(config.run)) == 20


def test_a_loss_that_grows_tenfold_goes_back(tiny_configs, monkeypatch, capsys):
    config = changed(tiny_configs[0], train={**LONG_RUN, "steps": 70, "save_every": 25})
    kind = TASKS["tokenizer"]
    update = kind.update

    def grown(self, step, parts):
        if step == 28:
            with torch.no_grad():
                self.main.module.decoder.to_pixels.weight.mul_(1e3)
        return update(self, step, parts)

    monkeypatch.setattr(kind, "update", grown)
    train(config)
    said = capsys.readouterr().err
    assert "diverged at step 48" in said and "going on from the weights of step 25" in said


def test_a_generator_skips_bad_steps_too(tiny_configs, monkeypatch, tmp_path):
    """And so it does where what came of a step is asked after the next one, as of an accelerator:
    it ends with the same weights."""
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    from maskgit.model.wrapper import NonAutoregressiveWrapper
    from maskgit.training import learner

    real, ends = NonAutoregressiveWrapper.forward, []
    for late in (False, True):
        calls = []

        def forward(self, codes, calls=calls, **keywords):
            losses = real(self, codes, **keywords)
            calls.append(self.training)
            bad = self.training and calls.count(True) == 3
            return losses._replace(loss=losses.loss * float("nan")) if bad else losses

        class Outcome(learner.Outcome):
            def __init__(self, values, late=late):
                super().__init__(values)
                self.is_open = late

        run, steps = str(tmp_path / f"late_{late}"), generator.train.steps
        with monkeypatch.context() as patch:
            patch.setattr(NonAutoregressiveWrapper, "forward", forward)
            patch.setattr(learner, "Outcome", Outcome)
            train(generator.model_copy(update={"run": run}))
        [row] = given_up(run)
        assert row["step"] == 2 and row["images"][0].startswith("row ")
        found = load_latest(Path(run)).tensors
        assert found["maskgit.optimizer"]["0:step"] == steps - 1 > 3, "one was not made"
        assert found["maskgit.ema"]["n_averaged"] == steps - 1
        ends.append({f"{file}/{key}": v for file, part in found.items() for key, v in part.items()})
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.allclose(value, ends[1][key], atol=2e-4) for key, value in ends[0].items())


@pytest.mark.parametrize("quantizer", ["fsq", "rvq", "sim_vq", "lfq", "bsq"])
def test_a_skip_that_nobody_waits_for_is_one_that_the_host_makes(
    tiny_configs, tmp_path, monkeypatch, quantizer
):
    """Both ways a run ends with the same weights, however its quantizer is made; but for codes
    that are restarted, by other draws."""
    own = {"levels": [4, 4]} if quantizer == "fsq" else {"codebook_size": 16}
    own |= {"dead_below": 0.0} if quantizer == "rvq" else {}
    ends = []
    for late in (False, True):
        config = changed(
            tiny_configs[0],
            model={"quantizer": {"name": quantizer, **own}},
            train={**LONG_RUN, "accumulate": 2, "steps": 6, "save_every": 6},
        ).model_copy(update={"run": str(tmp_path / f"late_{late}")})
        with monkeypatch.context() as patch:
            if late:
                as_an_accelerator(patch)
            poison(patch, "tokenizer", {2, 4})
            train(config)
        assert [row["step"] for row in given_up(config.run)] == [2, 4]
        ends.append(load_latest(Path(config.run)).tensors)
    assert ends[1]["tokenizer.ema"]["n_averaged"] == 4
    for part, values in ends[0].items():
        for name, value in values.items():
            assert torch.allclose(value.float(), ends[1][part][name].float(), atol=2e-4), name


@pytest.mark.parametrize("late", [False, True])
def test_a_bad_batch_of_one_process_is_given_up_by_all(tiny_configs, tmp_path, late, tally):
    path = tmp_path / "config.json"
    count = cases(3, 10)
    config = changed(
        tiny_configs[0],
        train={**LONG_RUN, "steps": 4 * count, "save_every": 4 * count},
    )
    path.write_text(json.dumps(to_dict(config)))
    script = repo() / "tests" / "faults" / "one_rank_driver.py"
    by_processes(2, script, path, *(["late"] if late else []))
    found = given_up(config.run)
    right = [row for row in found if row["step"] % 4 == 1]
    tally("NaN batches on one rank", len(right), count)
    assert len(found) == count

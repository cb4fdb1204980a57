"""Configs and presets of a stranger: nothing runs, one line, little memory and time."""

import os
import resource
import time

import pytest

from maskgit.pipeline.pipeline import Pipeline
from tests.conftest import cli

pytestmark = pytest.mark.faults


def laughs(levels, width=9):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


TASK = "task: tokenizer\n"
BAD = {
    "nothing": "",
    "a list": "- task: tokenizer",
    "a text": "tokenizer",
    "a number": "3",
    "null": "null",
    "two documents": "task: tokenizer\n---\ntask: maskgit",
    "no task": "run: x",
    "an unknown task": "task: tokeniser",
    "a task that is a list": "task: [tokenizer]",
    "a task that is null": "task:",
    "a bomb": laughs(12),
    "a larger bomb": laughs(40, 20),
    "a document in itself": "a: &a [*a]",
    "a mapping in itself": "task: tokenizer\ndata: &d {source: *d}",
    "nested deeply": TASK + "data: " + "[" * 5000 + "]" * 5000,
    "mappings nested deeply": TASK + "data: " + "{a: " * 3000 + "1" + "}" * 3000,
    "Python's object": TASK + "run: !!python/object/apply:os.system ['touch MARK']",
    "Python's name": TASK + "run: !!python/name:os.system",
    "Python's module": TASK + "run: !!python/module:os",
    "Python's tuple": TASK + "run: !!python/tuple [1, 2]",
    "a tag of nobody": TASK + "run: !x y",
    "a truth of nobody": TASK + "seed: !!bool foo",
    "rounds without end": "task: maskgit\nsampler: {name: remask, steps: 1000000000000}",
    "a set": TASK + "run: !!set {a, b}",
    "a date": TASK + "seed: 2020-01-01",
    "a key twice": TASK + "task: tokenizer",
    "a key twice, deeper": TASK + "data: {image_size: 8, image_size: 16}",
    "a tab": TASK + "\tdata: {}",
    "not closed": TASK + "data: {image_size: 8",
    "a quote not closed": TASK + "run: 'x",
    "NUL": TASK + "run: \0",
    "a control character": TASK + "run: \x07",
    "an alias of nothing": TASK + "run: *x",
    "an anchor of nothing": TASK + "run: & x",
    "the environment": TASK + "run: ${oc.env:HOME}",
    "another key": TASK + "run: ${seed}",
    "an interpolation in a list": TASK + "model: {widths: ['${seed}']}",
    "a merge of a list": TASK + "<<: [1]",
    "an unknown key": TASK + "sed: 1",
    "an unknown section": TASK + "dat: {}",
    "a key that is a number": TASK + "1: 2",
    "a key that is null": TASK + "null: 2",
    "a key that is a list": TASK + "? [a]\n: 2",
    "a key that is yes": TASK + "yes: 2",
    "a section that is a list": TASK + "data: []",
    "a section that is a text": TASK + "data: x",
    "a section that is a number": TASK + "train: 3",
    "NaN": TASK + "train: {learning_rate: .nan}",
    "infinity": TASK + "train: {learning_rate: .inf}",
    "minus infinity": TASK + "train: {clip_norm: -.inf}",
    "1e400": TASK + "train: {learning_rate: 1.0e+400}",
    "no steps": TASK + "train: {steps: 0}",
    "half a step": TASK + "train: {steps: 1.5}",
    "steps of text": TASK + "train: {steps: many}",
    "a batch below zero": TASK + "train: {batch_size: -1}",
    "a seed below zero": TASK + "seed: -1",
    "betas of three": TASK + "train: {betas: [0.1, 0.2, 0.3]}",
    "a beta of one": TASK + "train: {betas: [1, 0.9]}",
    "betas above one": TASK + "train: {betas: [0.9, 2]}",
    "trackers that are numbers": TASK + "train: {trackers: [1]}",
    "a precision of nobody": TASK + "train: {precision: fp8}",
    "two channels": TASK + "data: {channels: 2}",
    "no pixels": TASK + "data: {image_size: 0}",
    "black above white": TASK + "data: {range: [1, 0]}",
    "a crop of nobody": TASK + "data: {crop: top}",
    "a source of nobody": TASK + "data: {source: imagnet}",
    "a source without a name": TASK + "data: {source: {root: x}}",
    "a source's wrong option": TASK + "data: {source: {name: folder, rot: x}}",
    "a source that lacks one": TASK + "data: {source: {name: folder}}",
    "one level": TASK + "model: {quantizer: {name: fsq, levels: [1]}}",
    "no levels": TASK + "model: {quantizer: {name: fsq, levels: []}}",
    "no codes": TASK + "model: {quantizer: {name: vq, codebook_size: 0}}",
    "codes below zero": TASK + "model: {quantizer: {name: lfq, codebook_size: -8}}",
    "no widths": TASK + "model: {widths: []}",
    "widths of text": TASK + "model: {widths: [a]}",
    "a weight of NaN": TASK + "loss: {perceptual_weight: .nan}",
    "no rounds": "task: maskgit\nsampler: {name: halton, steps: 0}",
    "no codes to draw from": "task: maskgit\nsampler: {name: halton, top_k: 0}",
    "a refresh of nothing": "task: maskgit\nsampler: {name: halton, refresh: 0}",
    "a kind of nobody": "task: maskgit\nsampler: {name: remask, kind: foo}",
    "a temperature of NaN": "task: maskgit\nsampler: {name: halton, temperature: .nan}",
    "a ramp of three": "task: maskgit\nsampler: {name: halton, temperature: [1, 2, 3]}",
    "guidance of infinity": "task: maskgit\nguidance: {scale: .inf}",
    "a net without end": "task: maskgit\ntokenizer: runs/mnist/vqgan\nmodel: {depth: 1000000000}",
    "a discriminator without end": TASK + "loss: {adversarial: {discriminator: {name: patchgan, num_layers: 1000000000}}}",
    "a tokenizer without end": TASK + "model: {num_blocks: 1000000000}",
    "heads that do not turn": "task: maskgit\nmodel: {positions: rotary, dim_head: 6}",
    "true steps": TASK + "train: {steps: true}",
    "a size without a value": TASK + "data: {image_size: }",
    "a backbone that is a number": "task: maskgit\nmodel: 3",
    "a part that ends where it begins": "task: maskgit\nsampler: {name: remask, refine: [0.5, 0.5]}",
    "a sigmoid that falls": "task: maskgit\nloss: {schedule: {name: sigmoid, start: 3, end: 1}}",
    "a power below zero": "task: maskgit\nsampler: {name: halton, schedule: {name: poly, power: -1}}",
}  # fmt: skip


def limited(command):
    """-> the status of a command, which took less than ten seconds and a gibibyte."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    status = command()
    assert time.perf_counter() - start < 10
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20 < 1
    return status


def test_no_config_runs_anything_or_ends_in_a_traceback(tmp_path, monkeypatch, capfd, tally):
    monkeypatch.chdir(tmp_path)
    passed = 0
    for name, text in BAD.items():
        (tmp_path / "x.yaml").write_text(text.replace("MARK", str(tmp_path / "mark")))
        status = limited(lambda: cli("info", "x.yaml"))
        said = capfd.readouterr().err.strip()
        good = status == 2 and said.startswith("maskgit: ") and "\n" not in said
        passed += good and not (tmp_path / "mark").exists()
        if not good:
            print(name, status, said[-300:])
    tally("YAML: configs", passed, len(BAD))


PLACES = {
    "UTF-16": lambda path: path.write_bytes("task: tokenizer".encode("utf-16")),
    "Latin-1": lambda path: path.write_bytes(b"task: tokenizer\nrun: \xff"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
    "two megabytes": lambda path: path.write_text("task: tokenizer\n" + "# x\n" * 2**19),
    "random bytes": lambda path: path.write_bytes(bytes(range(256)) * 10),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_config_is_refused_in_a_line(tmp_path, name, capfd):
    PLACES[name](tmp_path / "x.yaml")
    assert limited(lambda: cli("train", tmp_path / "x.yaml")) == 2
    said = capfd.readouterr().err.strip()
    assert said.startswith("maskgit: ") and "\n" not in said


PRESETS = {
    "nothing": "",
    "a list": "[1]",
    "a sampler of nobody": "sampler: halto",
    "an unknown key": "samplr: halton",
    "an unknown option": "sampler: {name: halton, step: 3}",
    "no rounds": "sampler: {name: halton, steps: 0}",
    "half a round": "sampler: {name: halton, steps: 1.5}",
    "NaN": "sampler: {name: halton, temperature: .nan}",
    "infinity": "guidance: {scale: .inf}",
    "an interval that falls": "guidance: {interval: [1, 0]}",
    "a schedule of nobody": "sampler: {name: halton, schedule: cosin}",
    "the environment": "sampler: ${oc.env:HOME}",
    "Python's object": "sampler: !!python/object/apply:os.system ['true']",
    "a bomb": laughs(12),
    "a key twice": "sampler: halton\nsampler: random",
    "measured by a list": "measured: [1]",
    "a critic that is not there": "sampler: critic",
    "nested deeply": "sampler: " + "[" * 3000,
}


def test_no_preset_runs_anything_or_is_used_as_something_else(run, capfd, tally):
    folder = run / "pipeline" / "presets"
    folder.mkdir()

    def sample():
        return cli("sample", run, "--preset", "x", "--out", run / "grid.png", "--per-label", 1)

    passed = 0
    for name, text in PRESETS.items():
        (folder / "x.yaml").write_text(text)
        status = limited(sample)
        said = capfd.readouterr().err.strip()
        good = status == 2 and said.splitlines()[-1].startswith("maskgit: ")
        passed += (good and "Traceback" not in said) or (name == "nothing" and status == 0)
        if not good:
            print(name, status, said[-300:])
    tally("YAML: presets", passed, len(PRESETS))


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0}, {"steps": -3}, {"top_k": 0}, {"top_p": 1.5}, {"refresh": 0},
        {"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": (1, 2, 3)},
        {"guidance": float("inf")}, {"guidance": {"scale": -1}}, {"schedule": "cosin"},
        {"sampler": {"name": "remask", "kind": "foo"}}, {"sampler": {"name": "remask", "eta": 2}},
        {"steps": "x"}, {"foo": 1}, {"schedule": lambda t: 1 - t, "top_k": 0},
    ],
    ids=lambda options: str(sorted(options)),
)  # fmt: skip
def test_a_call_in_python_is_checked_as_a_config_is(run, options):
    pipeline = Pipeline.from_pretrained(run)
    options = {"sampler": "halton"} | options
    with pytest.raises(ValueError) as error:
        pipeline.generate([0], **options)
    assert "\n" not in str(error.value)

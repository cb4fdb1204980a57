import pytest

from maskgit.config.loading import CONFIGS, load
from maskgit.config.marks import may_change
from maskgit.training.resume import check_same


@pytest.mark.parametrize("task", CONFIGS)
def test_what_a_resumed_run_may_set_anew(task):
    """What says how often, how long, where things lie and how it is drawn from, and what helps
    against a divergence; nothing else that a weight depends on."""
    loop = [
        "steps",
        "minutes",
        "log_every",
        "eval_every",
        "preview_every",
        "save_every",
        "keep",
        "max_eval_images",
        "trackers",
        "compile",
        "shard",
        "learning_rate",
        "clip_norm",
    ]
    places = {
        "tokenizer": set(),
        "classifier": set(),
        "maskgit": {"tokenizer", "codes"},
        "critic": {"generator", "codes"},
        "decoder": {"generator"},
    }[task]
    drawing = {"sampler", "guidance"} if task in ("maskgit", "critic") else {"data.workers"}
    drawing = set() if task == "decoder" else drawing
    wanted = {f"train.{key}" for key in loop} | drawing | places | {"run", "init_from"}
    assert set(may_change(CONFIGS[task])) == wanted


def test_a_resumed_run_may_draw_otherwise_but_not_learn_otherwise():
    config = load("mnist/maskgit")
    drawn = [
        "sampler={name: random, steps: 3}",
        "guidance.scale=7",
        "run=elsewhere",
        "train.steps=9",
    ]
    check_same(config, load("mnist/maskgit", drawn), "run")
    with pytest.raises(
        ValueError, match=r"another config \(loss.schedule: .* -> linear, train.batch_size"
    ):
        check_same(
            config,
            load("mnist/maskgit", ["loss.schedule=linear", "train.batch_size=3", *drawn]),
            "run",
        )

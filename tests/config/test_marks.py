import pytest

from maskgit.config.loading import CONFIGS, load
from maskgit.config.marks import may_change
from maskgit.training.checkpoints import check_same


@pytest.mark.parametrize("task", CONFIGS)
def test_what_a_resumed_run_may_set_anew(task):
    """What says how often, how long, where to and how it is drawn from; nothing that a weight
    depends on."""
    loop = [
        "steps",
        "log_every",
        "eval_every",
        "preview_every",
        "save_every",
        "keep",
        "max_eval_images",
        "trackers",
    ]
    drawing = {"sampler", "guidance"} if task in ("maskgit", "critic") else {"data.workers"}
    assert set(may_change(CONFIGS[task])) == {f"train.{key}" for key in loop} | drawing | {"run"}


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

import json

import pytest
import torch

from maskgit.evaluation import comparison, places
from maskgit.evaluation.comparison import network_calls, run_comparison
from maskgit.evaluation.places import Comparison, plan
from maskgit.evaluation.report import Number, Results
from maskgit.model.transformer import Transformer
from maskgit.samplers import SAMPLERS
from tests.conftest import make_pipeline

CALLS = {
    (): 4.0,
    (("guidance", 2.0),): 8.0,
    (("guidance", (("scale", 2.0), ("interval", (0.3, 0.8)))),): 6.0,
    (("sampler", "halton"), ("refresh", 2)): 3.5,
    (("sampler", "halton"), ("refresh", 4), ("guidance", 2.0)): 6.0,
    (("sampler", "remask"), ("steps", 6)): 5.2,
}
"""Of 4 x 4 cells in four rounds; measured before a class of nets was no longer named."""


def options_of(call):
    return {key: dict(value) if isinstance(value, tuple) else value for key, value in call}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_network_calls_count_whole_grids(call, positions):
    assert network_calls(make_pipeline(positions=positions), options_of(call)) == pytest.approx(
        CALLS[call]
    )


def test_network_calls_of_several_codes_a_cell_and_of_a_critic(tiny_pipeline):
    halves = {"sampler": "halton", "refresh": 2}
    assert network_calls(make_pipeline(codes_per_cell=2), halves) == pytest.approx(3.25)
    critic = Transformer(**{**tiny_pipeline.net.config, "num_outputs": 1}).eval()
    tiny_pipeline.model.token_critic = critic
    assert network_calls(tiny_pipeline, {"sampler": "critic"}) == 7.0
    assert network_calls(tiny_pipeline, {"sampler": "critic", "guidance": 2.0}) == 11.0


class Other(torch.nn.Module):
    """A net of another class, which says nothing of its first layer."""

    def __init__(self, net):
        super().__init__()
        self.net, self.grid, self.any_grid, self.null = net, net.grid, net.any_grid, net.null
        self.to_logits, self.check_grid = net.to_logits, net.check_grid

    def forward(self, codes, condition=None, **given):
        return self.net(codes, condition, **given)


def test_network_calls_of_any_net(tiny_pipeline):
    tiny_pipeline.model.net = Other(tiny_pipeline.model.net)
    assert (
        network_calls(tiny_pipeline, {}) == 4.0
        and network_calls(tiny_pipeline, {"guidance": 2.0}) == 8.0
    )


@pytest.fixture
def measured(monkeypatch):
    """Numbers from a formula in place of images; and the requests."""
    requests = []

    def formula(request):
        requests.append(request)
        fid = Number(10 / request.options["sampler"]["steps"], float("nan"), 0.5, "lower")
        return Results({"of": "run", "samples": {"count": request.count}}, {"fid": fid}, (), {})

    monkeypatch.setattr(comparison, "usual_batch", lambda: 2)
    monkeypatch.setattr(comparison, "evaluate", formula)
    monkeypatch.setattr(
        places, "instruments", lambda request: {"features": str(request.features), "judge": None}
    )
    return requests


def test_a_table_of_all_that_a_model_can_be_drawn_with(run, measured):
    text = run_comparison(Comparison(run, (), (2, 4), count=100))
    able = [name for name in SAMPLERS if "critic" not in name]
    rows = json.loads((run / "samplers" / "samplers.json").read_text())
    assert [(row["rounds"], row["sampler"]) for row in rows] == [
        (n, name) for n in (2, 4) for name in able
    ]
    assert rows[0]["numbers"] == {
        "fid": {"value": 5.0, "half_width": None, "floor": 0.5, "better": "lower"}
    }
    assert text.startswith(
        "| sampler | rounds | network calls | FID | images/s | samples | settings |\n|---|"
    )
    assert f"| {able[0]} | 2 | 2 | 5 | " in text and " | 100 | defaults |" in text
    assert (run / "samplers" / "samplers.md").read_text() in text + "\n"
    assert all(
        (run / "samplers" / name).is_file() for name in ("samplers.png", "speed.png", "grid.png")
    )
    assert (run / "samplers" / f"{able[0]}-2" / "results.json").is_file()


def test_run_again_it_continues(run, measured, monkeypatch):
    asked = Comparison(run, ["halton"], (2, 4), count=100)
    text = run_comparison(asked)
    assert run_comparison(asked) == text and len(measured) == 2
    more = run_comparison(Comparison(run, ["halton", "random"], (2, 4), count=100))
    assert len(measured) == 4 and all(line in more for line in text.splitlines()[2:4])
    (run / "samplers" / "halton-2" / "speed.json").unlink()
    monkeypatch.setattr(comparison, "network_calls", lambda *_: 7.0)
    assert "| halton | 2 | 7 | 5 |" in run_comparison(asked) and len(measured) == 4, (
        "a speed that is deleted"
    )


def test_a_comparison_that_is_killed_keeps_what_was_measured(run, measured, monkeypatch):
    formula, asked = comparison.evaluate, Comparison(run, ["halton"], (2, 4), count=100)

    def killed(request):
        if request.options["sampler"]["steps"] == 4:
            raise KeyboardInterrupt
        return formula(request)

    monkeypatch.setattr(comparison, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        run_comparison(asked)
    assert (
        "| halton | 2 | | 5 | | 100 | defaults |" in (run / "samplers" / "samplers.md").read_text()
    )
    monkeypatch.setattr(comparison, "evaluate", formula)
    run_comparison(asked)
    assert len(measured) == 2


def test_a_process_that_has_no_results_keeps_none(run, measured, monkeypatch):
    monkeypatch.setattr(comparison, "evaluate", lambda request: None)
    asked = Comparison(run, ["halton"], (2,), count=100)
    pipeline = comparison.load_pipeline(run, "auto")
    [place] = plan(asked, pipeline)
    comparison.measure(place, pipeline, 600.0)
    assert not place.out.exists()


def test_what_cannot_be_compared_is_refused_before_any_work(run, measured, tiny_pipeline):
    with pytest.raises(ValueError, match="needs a model with a token critic"):
        run_comparison(Comparison(run, ["halton", "critic"], (2,)))
    run_comparison(Comparison(run, ["halton"], (2, 4), count=100))
    with pytest.raises(
        ValueError, match=r"other settings .*halton-2, .*halton-4: set --out to measure anew"
    ):
        run_comparison(Comparison(run, ["random", "halton"], (2, 4), count=200))
    assert len(measured) == 2 and not (run / "samplers" / "random-2").exists()
    tiny_pipeline.model.self_cond = True
    with pytest.raises(ValueError, match="self-conditioned model runs whole in every round"):
        plan(Comparison(run, ["halton"], (2,), refresh=(1, 2)), tiny_pipeline)

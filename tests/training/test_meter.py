from types import SimpleNamespace

import torch

from maskgit.training import meter as clocks
from maskgit.training.meter import Meter, Stopwatch

ALONE = SimpleNamespace(reduce=lambda values, how: values)


def test_means_are_of_the_steps_that_logged_a_value_and_begin_anew():
    meter = Meter()
    for step in range(4):
        logs = {"loss": torch.tensor(float(step))}
        if step > 1:  # a discriminator has joined
            logs["real"] = torch.tensor(10.0 * step)
        meter.add(logs)
    assert meter.means(ALONE) == {"loss": 1.5, "real": 25.0}
    assert meter.means(ALONE) == {}, "nothing was added"
    meter.add({"loss": torch.tensor(7.0)})
    assert meter.means(ALONE) == {"loss": 7.0}


def test_pauses_do_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clocks, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    watch = Stopwatch()
    now[0] = 3.0
    with watch.paused():
        now[0] = 103.0
    now[0] = 105.0
    assert watch.lap() == 5.0
    now[0] = 106.0
    assert watch.lap() == 1.0

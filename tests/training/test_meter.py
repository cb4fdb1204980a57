from types import SimpleNamespace

import torch

from maskgit.training.meter import Meter

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

"""A compiled step is the step, in one graph whatever it hides."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from maskgit.model import chunked
from maskgit.training import compiling
from maskgit.training.compiling import WORTH, compile_step, is_compiled
from tests.model.conftest import draws, ours
from tests.training.conftest import changed

CPU, OTHER = torch.device("cpu"), torch.device("meta")


def test_only_long_trainings_on_accelerators_are_compiled_unasked(tiny_configs):
    def config(**options):
        return changed(tiny_configs[1], train=options).train

    assert is_compiled(config(steps=WORTH), OTHER)
    assert not is_compiled(config(steps=WORTH - 1), OTHER)
    assert not is_compiled(config(steps=WORTH), CPU)
    assert is_compiled(config(compile=True), CPU)
    assert not is_compiled(config(steps=WORTH, compile=False), OTHER)


@pytest.mark.parametrize(
    "options", [{}, {"self_cond": True}, {"use_simple_mdlm_loss_weight": True}]
)
@pytest.mark.parametrize("most", [chunked.MOST_LOGITS, 16 * 40])
def test_one_graph_gives_every_step(options, most, monkeypatch, capsys):
    """Also where logits are made in chunks."""
    monkeypatch.setattr(chunked, "MOST_LOGITS", most)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    real = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda work, mode: real(work, backend=counter, fullgraph=True, dynamic=False),
    )
    plain, compiled = ours(**options).train(), ours(**options).train()
    compiled.load_state_dict(plain.state_dict())
    compile_step(compiled)
    assert "compile" in capsys.readouterr().err
    hidden = set()
    for seed in range(4):
        codes = torch.randint(16, (6, 4, 6), generator=draws(seed))
        labels = torch.arange(6) % 3
        found = []
        for wrapper in (plain, compiled):
            given = wrapper.draw(6, (4, 6), draws(seed))
            hidden.add(int(given.hidden.sum()))
            wrapper(codes, condition=labels, draws=given).loss.backward()
            found.append({name: p.grad for name, p in wrapper.named_parameters()})
            wrapper.zero_grad()
        assert found[0].keys() == found[1].keys()
        for name, gradient in found[0].items():
            assert torch.allclose(gradient, found[1][name], atol=1e-6), name
    assert len(hidden) > 1, "steps of different sizes"
    assert counter.frame_count == 1


def test_the_task_asks_for_it(tiny_configs, monkeypatch):
    from maskgit.data.tokenization import tokenize_dataset
    from maskgit.training.tasks import maskgit
    from maskgit.training.trainer import train

    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    asked = []
    monkeypatch.setattr(maskgit, "compile_step", asked.append)
    train(changed(generator, train={"steps": 2, "compile": True}))
    assert len(asked) == 1
    assert compiling.WORTH

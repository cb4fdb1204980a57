"""Critics and self-conditioning through the whole product: config, training, resume, pipeline,
samples."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from maskgit.config.loading import load, parse, to_dict
from maskgit.data.tokenization import tokenize_dataset
from maskgit.pipeline.pipeline import Pipeline
from maskgit.training.checkpoints import load_latest
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import Stopped, Training, train
from tests.training.conftest import changed
from vqgan.weights import content_hash, load_weights

LABELS = [0, 1, 1, 0, 1]


OF_FILE = {"model": "maskgit", "tokenizer": "tokenizer", "critic": "critic"}


@pytest.fixture
def stages(tiny_configs, tmp_path):
    """(generator config, critic config) with the codes made, the generator not yet trained."""
    vqgan, generator = tiny_configs
    train(changed(vqgan, train={"steps": 2}))
    tokenize_dataset(vqgan.run, generator.codes)
    values = to_dict(generator)
    critic = {key: values[key] for key in ("codes", "model", "train")} | {
        "task": "critic",
        "run": str(tmp_path / "critic"),
        "generator": generator.run,
        "sampler": {"name": "critic", "steps": 3},
    }
    return generator, parse(critic, "critic")


def drawn(run, **options):
    return [
        np.asarray(image) for image in Pipeline.from_pretrained(run).generate(LABELS, **options)
    ]


def test_a_critic_is_trained_for_a_generator_that_stays_as_it_was(stages):
    generator, critic = stages
    train(generator)
    weights = Path(generator.run) / "pipeline" / "model.safetensors"
    before = content_hash(weights, "maskgit")
    assert train(critic) == Path(critic.run) / "pipeline"
    assert content_hash(weights, "maskgit") == before
    again = load_weights(Path(critic.run) / "pipeline" / "model.safetensors", "maskgit")[1]
    assert all(
        torch.equal(value, load_weights(weights, "maskgit")[1][name])
        for name, value in again.items()
    )
    rows = read_metrics(Path(critic.run) / "metrics.jsonl")
    assert [row["step"] for row in rows if "critic_loss" in row] == [3, 6]
    by_critic, by_confidence = drawn(critic.run), drawn(critic.run, sampler="confidence")
    assert any((a != b).any() for a, b in zip(by_critic, by_confidence, strict=True))
    alone = Pipeline.from_pretrained(critic.run).generate([LABELS[3]], [3])[0]
    assert (np.asarray(alone) == by_critic[3]).all(), "image i depends on its label and seed only"


def test_a_critic_takes_the_grids_that_its_generator_takes(stages):
    generator, critic = stages
    rotary = changed(generator, model={"positions": "rotary"})
    own = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
    with pytest.raises(ValueError, match=r"set critic\.positions"):
        train(changed(rotary, critic=own))
    both = train(
        changed(
            rotary, critic=own | {"positions": "rotary"}, sampler={"name": "critic", "steps": 2}
        )
    )
    with pytest.raises(ValueError, match=r"set model\.positions=rotary"):
        train(critic)
    size = {"height": 24, "width": 40}
    assert all(
        image.size == (40, 24) for image in Pipeline.from_pretrained(both).generate(LABELS, **size)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"loss": {"self_cond": True}},
        {"loss": {"self_token_critic": True}, "sampler": {"name": "self_critic", "steps": 3}},
        {"loss": {"self_cond": True, "self_token_critic": True, "critic_target": "hidden"}},
        {
            "critic": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8},
            "sampler": {"name": "critic", "steps": 3},
        },
    ],
)
def test_every_kind_trains_in_parts_resumes_and_draws_what_it_was_saved_with(
    stages, options, monkeypatch
):
    generator, _ = stages
    config = changed(generator, train={"accumulate": 2}, **options)
    whole = train(config)
    cut = changed(config, run=config.run + "-cut")
    with monkeypatch.context() as patch:
        patch.setattr(Training, "stop_signal", lambda self: 15 * (self.step == 3))
        with pytest.raises(Stopped):
            train(cut)
    resumed = train(cut)
    for path in whole.glob("*.safetensors"):
        assert content_hash(path, OF_FILE[path.stem]) == content_hash(
            resumed / path.name, OF_FILE[path.stem]
        )
    pipeline = Pipeline.from_pretrained(whole)
    assert pipeline.model.self_cond == config.loss.self_cond
    assert pipeline.model.has_critic == (config.loss.self_token_critic or config.critic is not None)
    assert (whole / "critic.safetensors").is_file() == (config.critic is not None)
    assert all(p.grad is None for p in pipeline.model.parameters())
    rows = [row for row in read_metrics(Path(config.run) / "metrics.jsonl") if "loss" in row]
    assert ("critic_loss" in rows[-1]) == pipeline.model.has_critic
    for a, b in zip(drawn(whole), drawn(resumed), strict=True):
        assert (a == b).all()


def test_self_conditioning_changes_what_is_drawn_and_guidance_may_begin_late(stages):
    generator, _ = stages
    config = changed(
        generator, loss={"self_cond": True}, guidance={"scale": 3.0, "interval": [0.4, 1.0]}
    )
    pipeline = Pipeline.from_pretrained(train(config))
    torch.nn.init.normal_(pipeline.model.to_self_cond.weight)
    with_it = pipeline.generate(LABELS)
    torch.nn.init.zeros_(pipeline.model.to_self_cond.weight)
    without = pipeline.generate(LABELS)
    assert any(
        (np.asarray(a) != np.asarray(b)).any() for a, b in zip(with_it, without, strict=True)
    )


def test_a_critic_does_not_go_on_with_another_generator(stages):
    generator, critic = stages
    train(generator)
    train(changed(critic, train={"steps": 2}))
    train(changed(generator, train={"steps": 8}))
    with pytest.raises(ValueError, match="was trained with generator .*, not with generator"):
        train(critic)


def test_a_critic_is_made_from_the_export_that_is_on_its_way(stages, tmp_path):
    """Its files still stand aside, as after a kill between their renaming and the last one."""
    generator, critic = stages
    folder = train(generator)
    old = shutil.copytree(folder, tmp_path / "old")
    train(changed(generator, train={"steps": 8}))
    new = content_hash(folder / "model.safetensors", "maskgit")
    assert new != content_hash(old / "model.safetensors", "maskgit")
    (folder / ".export").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / ".export" / path.name)
        shutil.copy(old / path.name, folder)
    train(changed(critic, train={"steps": 2}))
    assert load_latest(Path(critic.run)).state["made_from"] == f"generator {new}"


def test_a_sampler_without_its_critic_is_refused_before_any_training(stages):
    generator, critic = stages
    with pytest.raises(
        ValueError, match="the critic sampler needs a model with a token critic: train one"
    ):
        train(changed(generator, sampler={"name": "critic"}))
    assert not (Path(generator.run) / "config.yaml").exists()
    with pytest.raises(FileNotFoundError, match="no generator in"):
        train(critic)
    train(generator)
    pipeline = Pipeline.from_pretrained(generator.run)
    with pytest.raises(ValueError, match="needs a model with a token critic"):
        pipeline.generate([0], sampler="critic")
    with pytest.raises(ValueError, match="sampler 'confidence' has no option 'noise_scale'"):
        pipeline.generate([0], noise_scale=1.0)


def test_a_generator_with_a_critic_of_its_own_may_have_another(stages):
    """One checkpoint for every sampler: both critics are saved, and each is asked by its own
    sampler."""
    generator, critic = stages
    train(changed(generator, loss={"self_token_critic": True}))
    train(critic)
    pipeline = Pipeline.from_pretrained(critic.run)
    own, other, none = (
        np.stack(drawn(critic.run, sampler=name)).tobytes()
        for name in ("self_critic", "critic", "confidence")
    )
    assert pipeline.model.self_critic is not None and pipeline.model.token_critic is not None
    assert len({own, other, none}) == 3


def test_a_critic_finds_what_was_drawn():
    """On grids of one code, what a generator that knows nothing has drawn is seen at once: the loss
    falls to near 0."""
    from maskgit.model.transformer import Transformer
    from maskgit.model.wrapper import NonAutoregressiveWrapper

    torch.manual_seed(0)
    shape = {
        "codebook_size": 8,
        "grid": (4, 4),
        "num_classes": 2,
        "dim": 32,
        "depth": 1,
        "heads": 2,
        "dim_head": 16,
    }
    critic = Transformer(**shape, num_outputs=1)
    wrapper = NonAutoregressiveWrapper(Transformer(**shape), mask_id=8, token_critic=critic)
    before = [p.clone() for p in wrapper.net.parameters()]
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-2)
    for step in range(60):
        labels = torch.arange(32) % 2
        codes = labels[:, None, None].expand(-1, 4, 4) * 3  # class 0 is all 0, class 1 all 3
        draws = torch.Generator().manual_seed(step)
        loss = wrapper(codes, only_train_critic=True, condition=labels, generator=draws).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.05
    assert all(torch.equal(a, b) for a, b in zip(before, wrapper.net.parameters(), strict=True))
    assert all(p.grad is None for p in wrapper.net.parameters())


def test_the_configs_fit_their_generators():
    for data in ("mnist", "fashion_mnist"):
        critic, generator = load(f"{data}/critic"), load(f"{data}/maskgit")
        assert (critic.generator, critic.codes, critic.model) == (
            generator.run,
            generator.codes,
            generator.model,
        )

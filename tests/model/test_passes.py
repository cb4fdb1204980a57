"""Passes over some of the cells: whole ones are the net's own, and so is any that asks for all that
may have changed."""

import pytest
import torch

from maskgit.model.transformer import Transformer
from maskgit.samplers import SAMPLERS
from maskgit.samplers.conditions import distinct
from maskgit.samplers.engine import Policy, fill
from tests.conftest import make_pipeline
from vqgan.registry import options_of

NETS = [
    {},
    {"flash": True},
    {"positions": "rotary"},
    {"positions": "rotary", "codes_per_cell": 2, "flash": True},
]
CACHED = [name for name, sampler in SAMPLERS.items() if "refresh" in options_of(sampler)]


def transformer(**options):
    torch.manual_seed(0)
    sizes = {"dim": 32, "depth": 3, "heads": 2, "dim_head": 16}
    net = Transformer(codebook_size=16, grid=(4, 6), num_classes=3, **{**sizes, **options})
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


def grids(seed, batch=3):
    return torch.randint(17, (batch, 4, 6), generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 2, 3])
ALL = torch.ones(3, 4, 6, dtype=torch.bool)
SOME = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(9)) < 0.4


@pytest.mark.parametrize("options", NETS)
@pytest.mark.parametrize("training", [False, True])
def test_a_pass_for_some_cells_is_the_net_with_its_gradients(options, training):
    net = transformer(**options).train(training)
    extra = torch.randn(3, 4, 6, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
    whole = net(grids(0), LABELS, sum_embeds=extra, return_embeddings=True)[SOME]
    found = net.embed_at(grids(0), SOME, LABELS, sum_embeds=extra)
    assert torch.allclose(found, whole, atol=1e-5)
    learned = [extra, *(p for name, p in net.named_parameters() if "to_logits" not in name)]
    slope = torch.randn(whole.shape, generator=torch.Generator().manual_seed(2))
    pairs = zip(
        torch.autograd.grad(found, learned, slope),
        torch.autograd.grad(whole, learned, slope),
        strict=True,
    )
    assert all(torch.allclose(a, b, atol=1e-4 * b.abs().max()) for a, b in pairs)


def test_what_follows_the_last_attention_runs_on_the_asked_cells_only():
    net, seen = transformer(), []
    for number in (1, -1):
        layer = net.net.attn_layers.layers[number][1].fn
        layer.register_forward_hook(
            lambda module, inputs, output: seen.append(inputs[0].shape[:-1].numel())
        )
    net.embed_at(grids(0), SOME, LABELS)
    assert seen == [ALL.sum(), SOME.sum()]


def test_its_gradients_are_the_same_each_time_and_not_summed_in_bf16():
    """With several threads, in sizes where torch's gradient of plain indexing is summed in racing
    order."""
    torch.manual_seed(0)
    net = Transformer(
        codebook_size=16, grid=(16, 16), num_classes=3, dim=64, depth=1, heads=2, dim_head=32
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    codes, cells = torch.randint(17, (4, 16, 16)), torch.rand(4, 16, 16) < 0.6
    labels, slope = torch.tensor([0, 1, 2, 3]), torch.randn(int(cells.sum()), 64)
    learned = [p for name, p in net.named_parameters() if "to_gamma" in name]
    threads = torch.get_num_threads()

    def gradients(ours, bf16):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = (
                net.embed_at(codes, cells, labels)
                if ours
                else net(codes, labels, return_embeddings=True)[cells]
            )
        return torch.autograd.grad(found, learned, slope.to(found.dtype))

    torch.set_num_threads(2)
    try:
        first, again = (gradients(True, False) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        for ours, theirs in zip(gradients(True, True), gradients(False, True), strict=True):
            assert (ours - theirs).norm() < 0.02 * theirs.norm()
    finally:
        torch.set_num_threads(threads)


def test_nothing_asked_is_nothing_found():
    net = transformer()
    found = net.embed_at(grids(0), torch.zeros_like(ALL), LABELS)
    assert found.shape == (0, 32) and net.to_logits(found).shape == (0, 16)


def test_dropout_works_in_training_only():
    net = transformer(dropout=0.5)
    assert torch.equal(net.embed_at(grids(0), SOME, LABELS), net.embed_at(grids(0), SOME, LABELS))
    net.train()
    assert not torch.equal(
        net.embed_at(grids(0), SOME, LABELS), net.embed_at(grids(0), SOME, LABELS)
    )


def test_equal_images_are_found():
    codes, labels = grids(0)[[0, 1, 0, 0, 1]], torch.tensor([0, 1, 0, 2, 1])
    found = distinct(codes, labels)
    assert sorted(found.first.tolist()) == [0, 1, 3]
    assert torch.equal(codes[found.first][found.of_row], codes)
    assert torch.equal(labels[found.first][found.of_row], labels)
    assert len(distinct(codes, None).first) == 2


@pytest.mark.parametrize("sampler", ["confidence", "halton"])
def test_the_first_round_runs_once_for_each_label(sampler):
    pipeline, rows = make_pipeline(), []
    hook = pipeline.net.first_layer.register_forward_hook(
        lambda m, inputs, out: rows.append(len(inputs[0]))
    )
    options = {"sampler": {"name": sampler, "steps": 3}, "guidance": {"scale": 2.0}}
    *_, codes = pipeline.rounds([0, 1, 1, 0, 1], range(5), **options)
    assert rows == [3, 10, 10], (
        "two labels and none, then all images, with and without their labels"
    )
    hook.remove()
    for number, label in enumerate([0, 1, 1, 0, 1]):
        *_, alone = pipeline.rounds([label], [number], **options)
        assert torch.equal(codes[number], alone[0])


@pytest.mark.parametrize("options", NETS)
@torch.no_grad()
def test_refreshed_in_every_round_it_is_the_net(options):
    net = transformer(**options)
    passes = net.sampling_passes(1)
    for seed in range(3):
        found = passes.embed_at(grids(seed), LABELS, SOME)
        assert torch.allclose(
            found, net(grids(seed), LABELS, return_embeddings=True)[SOME], atol=1e-5
        )


@pytest.mark.parametrize("options", NETS)
@torch.no_grad()
def test_a_whole_pass_after_others_is_the_net(options):
    """Every third one, and one of another batch (as when guidance begins)."""
    net = transformer(**options)
    passes = net.sampling_passes(3)
    for seed, some in ((0, ALL), (1, SOME), (2, SOME)):
        passes.embed_at(grids(seed), LABELS, some)
    for codes, labels, some in (
        (grids(3), LABELS, SOME),
        (grids(4, 6), LABELS.repeat(2), SOME.repeat(2, 1, 1)),
    ):
        found = passes.embed_at(codes, labels, some)
        assert torch.allclose(found, net(codes, labels, return_embeddings=True)[some], atol=1e-5)


@pytest.mark.parametrize("options", NETS)
@torch.no_grad()
def test_a_pass_over_all_cells_is_whole(options):
    net = transformer(**options)
    passes = net.sampling_passes(100)
    passes.embed_at(grids(0), LABELS, ALL)
    changed = grids(0)
    changed[0, 1, 2], changed[2, 3, 5] = 4, 9
    found = passes.embed_at(changed, LABELS, ALL)
    assert torch.allclose(found, net(changed, LABELS, return_embeddings=True)[ALL], atol=1e-5)
    assert passes.embed_at(changed, LABELS, torch.zeros_like(ALL)).shape == (0, 32), (
        "nothing is asked: nothing runs"
    )


@torch.no_grad()
def test_only_what_is_asked_or_has_changed_runs():
    net = transformer()
    seen = []
    first = net.net.attn_layers.layers[0][1].fn
    hook = first.to_q.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[1])
    )
    passes = net.sampling_passes(3)
    codes, cells = grids(0), torch.zeros_like(ALL)
    cells[:, 0, :2] = True
    passes.embed_at(codes, LABELS, cells)
    codes[:, 3, 3] = (codes[:, 3, 3] + 1) % 16
    before = {layer: (k.clone(), v.clone()) for layer, (k, v) in passes.kept.items()}
    passes.embed_at(codes, LABELS, cells)
    kept = [i for i in range(24) if i not in (0, 1, 3 * 6 + 3)]  # asked for, or changed
    for layer, sides in before.items():
        for old, new in zip(sides, passes.kept[layer], strict=True):
            assert torch.equal(old[:, :, kept], new[:, :, kept])
            assert not torch.allclose(old[:, :, 21], new[:, :, 21])
    passes.embed_at(codes, LABELS, cells)
    passes.embed_at(codes, LABELS, cells)
    hook.remove()
    assert seen == [24, 8, 8, 24], "whole, asked and changed (in eights), asked, whole again"


@torch.no_grad()
def test_a_row_does_not_depend_on_how_many_cells_another_asks_for():
    net = transformer()
    few, many = torch.zeros_like(ALL[:1]), ALL[:1]
    few[:, 0, :2] = True

    def second(rows, cells):
        passes = net.sampling_passes(9)
        passes.embed_at(grids(0)[rows], LABELS[rows], ALL[rows])
        changed = grids(0)
        changed[:, 3, 3] = (changed[:, 3, 3] + 1) % 16
        passes.embed_at(changed[rows], LABELS[rows], cells)
        return passes.embed_at(changed[rows], LABELS[rows], cells)[: few.sum()]

    alone, together = second([0], few), second([0, 1], torch.cat((few, many)))
    assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("options", NETS)
@torch.no_grad()
def test_kept_keys_are_turned_by_their_own_places(options):
    """In a net of one layer keys do not depend on other cells, so that a partial pass is exact."""
    net = transformer(**{**options, "depth": 1})
    passes = net.sampling_passes(9)
    passes.embed_at(grids(0), LABELS, ALL)
    changed = grids(0)
    changed[:, 1, 4], changed[1, 3, 0] = (changed[:, 1, 4] + 1) % 16, (changed[1, 3, 0] + 1) % 16
    found = passes.embed_at(changed, LABELS, SOME)
    assert torch.allclose(found, net(changed, LABELS, return_embeddings=True)[SOME], atol=1e-5)


@pytest.mark.parametrize("name", CACHED)
def test_samplers_fill_grids_from_kept_passes(name):
    pipeline = make_pipeline()
    options = {
        "sampler": {"name": name, "steps": 6, "refresh": 3},
        "guidance": {"scale": 2.0, "interval": [0.3, 0.8]},
    }
    *_, codes = pipeline.rounds([0, 1, 2, 3], **options)
    assert codes.max() < 16
    *_, again = pipeline.rounds([0, 1, 2, 3], **options)
    *_, alone = pipeline.rounds([2], [2], **options)
    assert torch.equal(codes, again) and torch.equal(codes[2:3], alone), (
        "an image does not depend on its batch"
    )
    *_, exact = pipeline.rounds(
        [0, 1, 2, 3], sampler={"name": name, "steps": 6}, guidance=options["guidance"]
    )
    assert not torch.equal(codes, exact)
    given = torch.full((1, 4, 4), 16)
    given[0, 0] = torch.tensor([1, 2, 3, 4])
    *_, filled = pipeline.rounds([1], codes=given, **options)
    assert torch.equal(filled[0, 0], given[0, 0])


@pytest.mark.parametrize("name", ["remask", "ancestral"])
def test_an_image_does_not_depend_on_whether_others_draw_in_a_round(name):
    """Where every cell has a coin of its own, an image draws nothing in many of 32 rounds."""
    pipeline = make_pipeline()
    options = {"sampler": {"name": name, "steps": 32, "refresh": 3}}
    labels = [number % 3 for number in range(8)]
    *_, together = pipeline.rounds(labels, range(8), **options)
    for seed, label in enumerate(labels):
        *_, alone = pipeline.rounds([label], [seed], **options)
        assert torch.equal(together[seed : seed + 1], alone), seed


def test_edits_and_mixtures_take_kept_passes():
    pipeline = make_pipeline()
    frames = list(
        pipeline.watch(
            [0, 1], mixed_with=[(2, 0.5), (1, 0.2)], sampler={"name": "halton", "refresh": 2}
        )
    )
    assert frames[-1].codes.max() < 16 and frames[-1].confidence.isfinite().all()


def test_samplers_that_ask_a_critic_run_whole():
    assert set(SAMPLERS) - set(CACHED) == {"critic", "self_critic"}


def test_models_that_cannot_are_named(oracle):
    codes = torch.full((1, 2, 2), 3)
    with pytest.raises(ValueError, match="refresh can only be 1"):
        list(SAMPLERS["halton"](oracle, codes, [0], refresh=2))
    with pytest.raises(ValueError, match="refresh is at least 1"):
        list(fill(oracle, codes, [0], Policy(), rounds=None, refresh=0))
    pipeline = make_pipeline()
    pipeline.model.self_cond = True
    with pytest.raises(ValueError, match="without self-conditioning"):
        list(pipeline.rounds([0], sampler={"name": "halton", "refresh": 2}))

"""Published nets as samplers run them: codes asked for one by one, in any order, from any pass."""

import pytest
import torch

from maskgit.model.backbones import BACKBONES, make_backbone
from maskgit.model.conditioned import Conditioned
from maskgit.model.passes import Passes
from maskgit.model.published.net import PublishedNet
from maskgit.model.published.placed import PlacedHead, digits
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.samplers import SAMPLERS
from maskgit.samplers.guidance import Guided
from maskgit.samplers.predictor import Known
from vqgan.registry import options_of

GRID = (4, 6)
PUBLISHED = [name for name in BACKBONES if name != "transformer"]
NETS = [
    *({"name": name} for name in PUBLISHED),
    {"name": "maskbit", "codes_per_cell": 2},
    {"name": "maskbit", "codes_per_cell": 3, "embedding": "tables", "prenorm": True},
]
CACHED = [name for name, sampler in SAMPLERS.items() if "refresh" in options_of(sampler)]
LABELS = torch.tensor([0, 2, 1])
ALL = torch.ones(3, *GRID, dtype=torch.bool)
SOME = torch.rand(3, *GRID, generator=torch.Generator().manual_seed(9)) < 0.4


def made(options, depth=3):
    torch.manual_seed(0)
    depth -= options["name"] == "titok_uvit"  # whose block in the middle is not counted
    small = {"dim": 32, "depth": depth, "heads": 2, "hidden": 48}
    known = options_of(BACKBONES[options["name"]])
    small = {key: value for key, value in small.items() if key in known}
    net = make_backbone({**options, **small}, codebook_size=16, grid=GRID, num_classes=3)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


def grids(seed, batch=3):
    return torch.randint(17, (batch, *GRID), generator=torch.Generator().manual_seed(seed))


def whole(net, codes, labels):
    return net(codes, labels, return_embeddings=True)


@pytest.mark.parametrize("options", NETS, ids=str)
def test_some_codes_are_the_net_with_its_gradients(options):
    net = made(options)
    extra = torch.randn(3, *GRID, net.emb_dim, generator=torch.Generator().manual_seed(1))
    extra = extra.requires_grad_()
    wanted = net.to_logits(net(grids(0), LABELS, sum_embeds=extra, return_embeddings=True)[SOME])
    found = net.to_logits(net.embed_at(grids(0), SOME, LABELS, sum_embeds=extra))
    assert torch.allclose(found, wanted, atol=1e-5)
    slope = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    learned = [extra, *net.parameters()]
    pairs = zip(
        torch.autograd.grad(found, learned, slope, allow_unused=True),
        torch.autograd.grad(wanted, learned, slope, allow_unused=True),
        strict=True,
    )
    for a, b in pairs:
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-4 * b.abs().max())
    every = torch.arange(3 * 24).flip(0)
    turned = net.embed_at(grids(0), every, LABELS)
    assert torch.allclose(turned.flip(0), whole(net, grids(0), LABELS).flatten(0, 2), atol=1e-5)


@pytest.mark.parametrize("options", NETS, ids=str)
@torch.no_grad()
def test_passes_are_the_net(options):
    net = made(options)
    exact, now_and_then = net.sampling_passes(1), net.sampling_passes(3)
    for seed in range(3):
        wanted = whole(net, grids(seed), LABELS)
        found = exact.embed_at(grids(seed), LABELS, SOME)
        assert torch.allclose(found, wanted[SOME], atol=1e-5)
        now_and_then.embed_at(grids(seed), LABELS, SOME if seed else ALL)
    for batch in (1, 2):  # the third pass, and one of another batch
        codes, labels = grids(4, 3 * batch), LABELS.repeat(batch)
        some = SOME.repeat(batch, 1, 1)
        found = now_and_then.embed_at(codes, labels, some)
        assert torch.allclose(found, whole(net, codes, labels)[some], atol=1e-5)
    nothing = now_and_then.embed_at(codes, labels, torch.zeros_like(some))
    assert net.to_logits(nothing).shape == (0, 16)


@pytest.mark.parametrize("options", NETS, ids=str)
@torch.no_grad()
def test_a_partial_pass_is_exact_where_keys_do_not_depend_on_other_cells(options):
    net = made(options, depth=1)
    passes = net.sampling_passes(9)
    passes.embed_at(grids(0), LABELS, ALL)
    changed = grids(0)
    changed[:, 1, 4], changed[1, 3, 0] = (changed[:, 1, 4] + 1) % 16, (changed[1, 3, 0] + 1) % 16
    counts = (SOME | (changed != grids(0))).flatten(1).sum(1)
    known = Known(int(SOME.sum()), int(counts.max()))
    found, number = passes.rows_at(changed, LABELS, SOME, known)
    assert number is None
    assert torch.allclose(found, whole(net, changed, LABELS)[SOME], atol=1e-5)


@pytest.mark.parametrize("options", NETS, ids=str)
@torch.no_grad()
def test_equal_images_run_once_in_a_first_round(options):
    net = made(options)
    codes, labels = torch.full((4, *GRID), 16), torch.tensor([1, 0, 1, 1])
    some = torch.cat((SOME, SOME[:1]))
    rows, number = net.sampling_passes(1).rows_at(codes, labels, some)
    assert len(rows) == 2 * 24 and len(number) == some.sum()
    assert torch.allclose(rows[number], whole(net, codes, labels)[some], atol=1e-5)


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("refresh", [1, 3])
@pytest.mark.parametrize("options", NETS, ids=str)
@torch.no_grad()
def test_samplers_keep_their_contract(options, refresh, name):
    model = NonAutoregressiveWrapper(made(options), mask_id=16)
    labels, scale = torch.tensor([1, 1, 0]), 1.0 if options["name"] == "maskgit_flax" else 2.0
    given = torch.full((3, *GRID), 16)
    given[:, 0] = torch.arange(6)
    rest = {"sampler": name, "steps": 5, "guidance": scale, "refresh": refresh}
    found = model.generate(condition=labels, seeds=[5, 6, 7], **rest)
    assert found.min() >= 0 and found.max() < 16 and not torch.equal(found[0], found[1])
    for i in range(3):
        alone = model.generate(condition=labels[i : i + 1], seeds=[5 + i], **rest)
        assert torch.equal(alone[0], found[i]), "image i depends on its label and seed only"
    guided = Guided(Conditioned(model, 3, {}), labels, scale=scale)
    *_, filled = SAMPLERS[name](guided, given, [5, 6, 7], steps=5, refresh=refresh)
    assert torch.equal(filled[:, 0], given[:, 0]) and filled.max() < 16, "known cells stay"


def test_digits_of_a_place_are_whole_numbers_in_bf16():
    places = torch.arange(128 * 128)
    low, high = digits(places).bfloat16().long().unbind(-1)
    assert torch.equal(low + 128 * high, places)


def test_a_head_takes_the_weights_of_the_group_and_the_bias_of_the_cell():
    torch.manual_seed(0)
    head = PlacedHead(4, 5, groups=2, positions=200)
    torch.nn.init.normal_(head.bias)
    x, cells, groups = torch.randn(7, 4), torch.randint(200, (7,)), torch.randint(2, (7,))
    found = head(torch.cat((x, digits(cells), groups[:, None]), -1))
    for i in range(7):
        wanted = head.weight[groups[i]] @ x[i] + head.bias[groups[i], cells[i]]
        torch.testing.assert_close(found[i], wanted)


def test_codes_that_fill_no_cell_are_refused():
    with pytest.raises(ValueError, match="grids of 4x6 do not hold 4 codes a cell"):
        made({"name": "maskbit", "codes_per_cell": 4})


def test_they_are_all_run_by_the_same_passes():
    for options in NETS:
        net = made(options)
        assert isinstance(net, PublishedNet) and isinstance(net.sampling_passes(1), Passes)

import pytest
import torch

from tests.conftest import free_port
from tests.vqgan.conftest import DIM, latents, make, trained
from vqgan.published.codebooks import Codebook, Signs
from vqgan.quantizers import QUANTIZERS


def test_vq_restarts_codes_that_nobody_uses():
    torch.manual_seed(0)
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=64, codebook_dim=4).train()
    with torch.no_grad():
        quantizer.vq._codebook.embed[:, 1:] = -quantizer.vq._codebook.embed[:, :1]
    for step in range(200):
        quantizer(torch.randn(16, DIM, 4, 4, generator=torch.Generator().manual_seed(step)))
    codes = quantizer.eval()(
        torch.randn(64, DIM, 8, 8, generator=torch.Generator().manual_seed(0))
    ).codes
    assert len(codes.unique()) > 58


def test_vq_starts_from_the_first_batch():
    quantizer = make("vq").train()
    x = latents(8)
    quantizer(x)
    directions = torch.nn.functional.normalize(
        quantizer.vq.project_in(x.movedim(1, -1)).flatten(0, 2), dim=-1
    )
    assert ((quantizer.vq.codebook @ directions.T).max(1).values > 1 - 1e-5).all()


def test_vq_parts_of_a_step_move_the_codebook_as_the_whole():
    whole, parts = make("vq").train(), make("vq").train()
    x = latents(4)
    for quantizer in (whole, parts):
        quantizer.vq._codebook.threshold_ema_dead_code = 0
        quantizer.vq._codebook.has_dead_code_replacement = False
    whole(x)
    parts(x[:2], accumulate=True)
    parts(x[2:])
    assert torch.allclose(whole.vq.codebook, parts.vq.codebook, atol=1e-6)


def test_rvq_goes_from_coarse_to_fine():
    """Each depth codes what is left: by itself, every code but the first would be far off."""
    quantizer = QUANTIZERS["rvq"](DIM, codebook_size=16, codes_per_cell=3, codebook_dim=DIM).train()
    for step in range(60):
        quantizer(torch.randn(16, DIM, 4, 4, generator=torch.Generator().manual_seed(step)))
    x = torch.randn(16, DIM, 4, 4, generator=torch.Generator().manual_seed(99))
    wanted = quantizer.project_in(x.movedim(1, -1))
    codes = quantizer.eval()(x).codes.unflatten(-1, (4, 3))
    rest = [wanted]
    for depth, vq in enumerate(quantizer.depths):
        nearest = torch.cdist(rest[-1].flatten(0, 2), vq.codebook).argmin(1).view(16, 4, 4)
        assert torch.equal(codes[..., depth], nearest)
        rest.append(rest[-1] - vq.codebook[nearest])
    errors = [left.square().mean().item() for left in rest]
    assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2] > 1.3**3 * errors[3]


def test_rvq_gradients_are_those_of_one_pass():
    """Not once for each depth."""
    quantizer = make("rvq").train()
    x = latents().requires_grad_()
    quantizer(x).latents.sum().backward()
    expected = quantizer.project_in.weight.T @ quantizer.project_out.weight.sum(0)
    assert torch.allclose(x.grad, expected.view(1, DIM, 1, 1).expand_as(x), atol=1e-5)


def test_rvq_parts_of_a_step_move_the_codebooks_as_the_whole():
    whole, parts = make("rvq").train(), make("rvq").train()
    x = latents(4)
    for quantizer in (whole, parts):
        for vq in quantizer.depths:
            vq._codebook.threshold_ema_dead_code = 0
            vq._codebook.has_dead_code_replacement = False
    whole(x)
    parts(x[:2], accumulate=True)
    parts(x[2:])
    for a, b in zip(whole.depths, parts.depths, strict=True):
        assert torch.allclose(a.codebook, b.codebook, atol=1e-6)


def test_rvq_of_one_code_is_vq():
    with pytest.raises(ValueError, match="2 or more codes_per_cell, not 1: vq"):
        QUANTIZERS["rvq"](DIM, codes_per_cell=1)


@pytest.mark.parametrize("name", ["vq", "sim_vq", "rvq"])
def test_many_distances_are_taken_part_by_part(name, monkeypatch):
    quantizer = trained(name)
    whole = quantizer(latents())
    monkeypatch.setattr("vqgan.quantizers.codebooks.MOST_DISTANCES", 16 * 7)
    parts = quantizer(latents())
    assert torch.equal(whole.codes, parts.codes) and torch.allclose(
        whole.latents, parts.latents, atol=1e-6
    )


def test_vq_starts_from_means_if_told():
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=16, codebook_dim=4, kmeans=True)
    before = quantizer.state_dict()["vq._codebook.embed"].clone()
    assert quantizer.eval()(latents(3)).codes.unique().tolist() == [0], "there is no codebook yet"
    assert (
        torch.equal(quantizer.state_dict()["vq._codebook.embed"], before)
        and not quantizer.vq._codebook.initted
    )
    quantizer.train()(latents(16))
    assert len(quantizer.eval()(latents(16)).codes.unique()) == 16


def test_vq_without_restarts_keeps_the_codes_that_nobody_uses():
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=64, codebook_dim=4, dead_below=0.0).train()
    before = quantizer.vq.codebook.clone()
    for _ in range(3):
        codes = quantizer(latents(1)).codes
    unused = torch.ones(64, dtype=torch.bool)
    unused[codes.flatten()] = False
    moved = (quantizer.vq.codebook - before).norm(dim=-1)
    assert unused.sum() > 10 and (moved[unused] < 0.1).double().mean() > 0.8


def _two_of_a_group(rank, port, folder, name, options):
    """One of two processes, on data of its own: its codebooks after the first training step ->
    folder/rank.pt."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(0)
    quantizer = QUANTIZERS[name](DIM, codebook_size=16, codebook_dim=DIM, **options).train()
    noise = torch.randn(8, DIM, 4, 4, generator=torch.Generator().manual_seed(rank))
    quantizer(noise + (3.0 if rank else -3.0))
    codebooks = {key: value for key, value in quantizer.state_dict().items() if "_codebook." in key}
    torch.save(codebooks, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("vq", {}), ("vq", {"kmeans": True}), ("rvq", {})])
def test_codes_start_and_restart_from_the_data_of_all_processes(name, options, tmp_path):
    torch.multiprocessing.spawn(_two_of_a_group, (free_port(), tmp_path, name, options), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one), "one codebook, whoever holds it"
    first = next(value for key, value in one.items() if key.endswith("._codebook.embed"))[0]
    sides = first @ (first[0] / first[0].norm())
    assert (sides > 0).any() and (sides < 0).any(), "codes of either process's data"


def test_a_large_codebook_is_not_restarted_for_ever():
    """240 cells a step and 1,024 codes: a code is dead by its share of the cells, not by their
    number."""
    torch.manual_seed(0)
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=1024, codebook_dim=8, decay=0.9).train()
    batches = [
        torch.randn(16, DIM, 3, 5, generator=torch.Generator().manual_seed(step % 8))
        for step in range(300)
    ]
    for batch in batches[:-8]:
        quantizer(batch)
    before = quantizer.vq.codebook.clone()
    for batch in batches[-8:]:
        quantizer(batch)
    moved = (quantizer.vq.codebook - before).norm(dim=-1) > 0.5
    assert moved.double().mean() < 0.25


def brute_force(latents, rows, score):
    cells = latents.movedim(1, -1).flatten(0, 2)
    codes = [max(range(len(rows)), key=lambda k: score(cell, rows[k])) for cell in cells]
    return torch.tensor(codes).view(len(latents), *latents.shape[2:])


@pytest.mark.parametrize(
    ("distance", "score"),
    [
        ("euclidean", lambda z, e: -((z - e) ** 2).sum()),
        ("cosine", lambda z, e: z @ e / z.norm() / e.norm()),
        ("dot", lambda z, e: z @ e),
    ],
)
def test_a_published_code_is_the_nearest_row_by_its_distance(distance, score):
    torch.manual_seed(0)
    book, latents = Codebook(12, 3, distance), torch.randn(2, 3, 4, 5)
    book.embedding.weight.data *= torch.arange(1, 13)[:, None] / 6  # rows of other lengths
    found = book(latents)
    assert torch.equal(found.codes, brute_force(latents, book.embedding.weight, score))
    rows = book.embedding.weight[found.codes]
    if distance == "cosine":
        rows = rows / rows.norm(dim=-1, keepdim=True)
    assert torch.allclose(found.latents, rows.movedim(-1, 1))
    assert torch.equal(book.lookup(found.codes), found.latents)


def test_signs_are_bits_the_low_ones_first_and_groups_side_by_side():
    latents = torch.tensor([1.0, -1, 0, 2])[None, :, None, None]  # bits 1 0 0 1
    assert Signs(4)(latents).codes.tolist() == [[[9]]]
    grouped = Signs(4, codes_per_cell=2)
    found = grouped(latents.expand(1, 4, 2, 3))
    assert grouped.codebook_size == 4 and found.codes.tolist() == [[[1, 2] * 3] * 2]
    assert torch.equal(found.latents[0, :, 1, 2], torch.tensor([1.0, -1, -1, 1]))
    assert torch.equal(grouped.lookup(found.codes), found.latents)
    with pytest.raises(ValueError, match="5 bits cannot be cut into 2 equal codes"):
        Signs(5, codes_per_cell=2)

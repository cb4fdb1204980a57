"""Dead codes are restarted with no shape that depends on values, as the library restarts them."""

import copy
import pickle

import pytest
import torch

from tests.conftest import free_port
from tests.vqgan.conftest import DIM
from vqgan.quantizers import QUANTIZERS, restarts
from vqgan.quantizers.restarts import restart


def codebook_of(dead, cosine=True, codes=16):
    torch.manual_seed(0)
    vq = QUANTIZERS["vq"](DIM, codebook_size=codes, codebook_dim=4, cosine=cosine).train().vq
    codebook = vq._codebook
    codebook.threshold_ema_dead_code, codebook.reset_cluster_size = 1.0, 4.0
    codebook.cluster_size.fill_(2.0)
    codebook.cluster_size[0, dead] = 0.5
    codebook.embed_avg.copy_(codebook.embed * 2)
    return codebook


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("num_samples", [40, 3])
def test_the_dead_become_samples_and_the_others_stay(cosine, num_samples):
    dead = torch.tensor([1, 4, 5, 11, 15])
    codebook = codebook_of(dead, cosine)
    before = {name: value.clone() for name, value in codebook.named_buffers()}
    samples = torch.randn(num_samples, 4) * 3
    restart(codebook, samples)
    wanted = torch.nn.functional.normalize(samples, dim=-1) if cosine else samples
    changed = (codebook.embed[0] != before["embed"][0]).any(-1).nonzero().flatten()
    assert set(changed.tolist()) <= set(dead.tolist()) and len(changed) == min(5, num_samples)
    apart = torch.cdist(codebook.embed[0, changed], wanted)
    assert (apart.min(1).values < 1e-3).all()
    assert len(apart.argmin(1).unique()) == len(changed), "no sample is taken twice"
    assert (codebook.cluster_size[0, changed] == 4).all()
    assert torch.equal(codebook.embed_avg[0, changed], 4 * codebook.embed[0, changed])
    kept = [code for code in range(16) if code not in changed]
    for name in ("embed", "cluster_size", "embed_avg"):
        assert torch.equal(getattr(codebook, name)[0, kept], before[name][0, kept])


def test_nothing_is_restarted_where_nothing_is_dead_or_nobody_trains(monkeypatch):
    monkeypatch.setattr(restarts, "answers_at_once", lambda device: False)
    for codebook in (codebook_of([]), codebook_of([3]).eval()):
        before = codebook.embed.clone()
        codebook.expire_codes_(torch.randn(1, 40, 4))
        assert torch.equal(codebook.embed, before)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))]
)
def test_a_copy_restarts_its_own_codes(copied, monkeypatch):
    monkeypatch.setattr(restarts, "answers_at_once", lambda device: False)
    codebook = codebook_of([3])
    other, before = copied(codebook), codebook.embed.clone()
    other.expire_codes_(torch.randn(1, 40, 4))
    assert torch.equal(codebook.embed, before) and not torch.equal(other.embed, before)


@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_a_codebook_lives_without_the_library_s_restarts(name, monkeypatch):
    """As with them: nearly all codes are used, where without any it would be a few."""
    used = {}
    for kind in ("library", "device", "none"):
        torch.manual_seed(0)
        options = {"dead_below": 0.0} if kind == "none" else {}
        quantizer = QUANTIZERS[name](DIM, codebook_size=64, codebook_dim=4, **options).train()
        codebook = quantizer.vq._codebook if name == "vq" else quantizer.depths[0]._codebook
        with torch.no_grad():
            codebook.embed[:, 1:] = -codebook.embed[:, :1]
            codebook.embed_avg.copy_(codebook.embed)
        with monkeypatch.context() as patch:
            patch.setattr(restarts, "answers_at_once", lambda device, kind=kind: kind == "library")
            for step in range(60):
                draws = torch.Generator().manual_seed(step)
                quantizer(torch.randn(16, DIM, 4, 4, generator=draws))
        x = torch.randn(64, DIM, 8, 8, generator=torch.Generator().manual_seed(0))
        codes = quantizer.eval()(x).codes[..., :: getattr(quantizer, "codes_per_cell", 1)]
        used[kind] = len(codes.unique())
    assert used["device"] > 55 and used["library"] > 55 > 2 * used["none"], used


def _one_of_two(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    codebook = codebook_of(range(2, 14), cosine=False)
    before = codebook.embed[0].clone()
    torch.manual_seed(rank)
    restart(codebook, torch.randn(5, 4) + (30 if rank else -30))
    torch.save([before, dict(codebook.named_buffers())], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_restart_the_same_codes_from_the_samples_of_both(tmp_path):
    torch.multiprocessing.spawn(_one_of_two, (free_port(), tmp_path), nprocs=2)
    (before, one), (_, other) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    new = one["embed"][0][(one["embed"][0] != before).any(-1)]
    assert len(new) == 10 == len(new.unique(dim=0)), "12 are dead, each process has 5 samples"
    assert (new.mean(-1) > 20).sum() == 5 == (new.mean(-1) < -20).sum()

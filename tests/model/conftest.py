"""Nets of x-transformers, and one that remembers what it is asked."""

import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers
import warnings

from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from tests.conftest import all_grids

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers


class Recorder(torch.nn.Module):
    """A critic that remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def forward(self, codes, **conditioning):
        self.codes, self.conditioning = codes, conditioning
        return torch.zeros(*codes.shape, 1) + self.bias


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def theirs(num_codes=16, max_seq_len=24, **options):
    torch.manual_seed(0)
    layers = x_transformers.Encoder(dim=32, depth=2, heads=2, attn_dim_head=16)
    return x_transformers.TransformerWrapper(
        num_tokens=num_codes + 1,
        max_seq_len=max_seq_len,
        attn_layers=layers,
        **{"logits_dim": num_codes, **options},
    )


def ours(grid=(4, 6), num_codes=16, **options):
    torch.manual_seed(0)
    net = Transformer(
        codebook_size=num_codes, grid=grid, num_classes=3, dim=32, depth=2, heads=2, dim_head=16
    )
    return NonAutoregressiveWrapper(net, mask_id=num_codes, **options)


def draw_joint(oracle, count, seed=0):
    """Grids drawn from the oracle's joint: (count, 2, 2)."""
    flat = torch.multinomial(oracle.joint.flatten(), count, replacement=True, generator=draws(seed))
    return all_grids(3, 4)[flat].view(count, 2, 2)


def critical(kind, **options):
    torch.manual_seed(0)
    if kind == "self":
        return ours(self_token_critic=True, **options)
    net = Transformer(
        codebook_size=16,
        grid=(4, 6),
        num_classes=3,
        dim=32,
        depth=1,
        heads=2,
        dim_head=16,
        num_outputs=1,
    )
    return ours(token_critic=net, **options)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def transformer(**options):
    torch.manual_seed(0)
    options = {"heads": 2, "dim_head": 16} | options
    net = Transformer(codebook_size=16, grid=(4, 6), num_classes=3, dim=32, depth=2, **options)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()

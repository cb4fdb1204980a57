"""The net of Halton-MaskGIT against its formulas; its own code's answers: tests/importing."""

import torch
import torch.nn.functional as F

from maskgit.model.published.halton import Halton, rms


def by_formulas(net, codes, labels):
    """FORMATS, section 5: with heads that do not divide the width, and registers behind."""
    c = F.silu(net.labels(labels))
    x = net.codes(codes.flatten(1)) + net.positions
    x = torch.cat((x, net.registers.expand(len(x), -1, -1)), 1)
    for block in net.blocks:
        s1, g1, a1, s2, g2, a2 = block.to_factors(c)[:, None].chunk(6, -1)
        h = rms(x) * block.ln1 * (1 + g1) + s1
        q, k, v = rms(block.wq(h)), rms(block.wk(h)), block.wv(h)
        size = q.shape[-1] // net.heads
        parts = []
        for head in range(net.heads):
            part = slice(head * size, (head + 1) * size)
            shares = (q[..., part] @ k[..., part].transpose(1, 2) / size**0.5).softmax(-1)
            parts.append(shares @ v[..., part])
        x = x + a1 * block.wo(torch.cat(parts, -1))
        h = rms(x) * block.ln2 * (1 + g2) + s2
        x = x + a2 * block.w2(F.silu(block.w1(h)) * block.w3(h))
    s, g = net.last_factors(c)[:, None].chunk(2, -1)
    x = (rms(x) * net.norm_weight + net.norm_bias) * (1 + g) + s
    return net.to_logits(x[:, : codes[0].numel()])


@torch.no_grad()
def test_it_computes_its_formulas():
    torch.manual_seed(0)
    net = Halton(
        codebook_size=9,
        grid=(2, 3),
        num_classes=4,
        dim=20,
        depth=2,
        heads=3,
        hidden=24,
        registers=2,
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    codes, labels = torch.randint(10, (3, 2, 3)), torch.tensor([0, 3, 4])
    found = net.eval()(codes, labels).flatten(1, 2)
    assert torch.allclose(found, by_formulas(net, codes, labels), atol=1e-4)


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch():
    """Nor where the width does not divide into the CPU's vectors."""
    torch.manual_seed(0)
    for dim, heads in ((48, 4), (20, 2), (64, 2)):
        shape = {"codebook_size": 9, "grid": (4, 4), "num_classes": 4, "hidden": 256}
        net = Halton(**shape, dim=dim, depth=2, heads=heads).eval()
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        codes, labels = torch.randint(10, (5, 4, 4)), torch.tensor([0, 3, 4, 1, 2])
        together = net.by(labels).factors
        alone = torch.cat([net.by(label[None]).factors for label in labels])
        assert torch.equal(together, alone), dim
        assert torch.allclose(net(codes, labels)[3], net(codes[3:4], labels[3:4])[0], atol=1e-5)

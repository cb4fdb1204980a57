"""Convolutional tokenizers of any size, in the names of each project, are read back as they were.

That the names are the projects' own is what the golden files show.
"""

import re

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from maskgit.importing import import_weights
from maskgit.importing.convolutional import groups_of, resolution_of, vqgan_options
from maskgit.importing.system import Sizes
from tests.importing.test_msgpack import packed
from vqgan.tokenizers import load_tokenizer, make_tokenizer

COMMON = [(r"^(encoder|decoder)\.(post_quant|quant)_conv", r"\2_conv"), ("^quantizer", "quantize")]
DOWN_UP = [
    (r"^encoder\.net\.level", "encoder.down"),
    (r"^decoder\.net\.level", "decoder.up"),
    *COMMON,
]


def upper(pattern):
    """After which level, not before which, an `up` of ours comes."""
    return r"^decoder\.net\.up\.(\d+)\.conv", lambda m: pattern.format(int(m[1]) + 1)


def by_rules(*rules):
    def layout(tensors, levels):
        found = {}
        for name, tensor in tensors.items():
            for pattern, new in (*rules, *DOWN_UP, (r"\.net\.", ".")):
                name = re.sub(pattern, new, name)
            found[name] = tensor
        return found

    return layout


TAMING = by_rules(
    (r"^encoder\.net\.down\.(\d+)\.conv", r"encoder.down.\1.downsample.conv"),
    upper("decoder.up.{}.upsample.conv"),
    (r"\.mid\.0", ".mid.block_1"),
    (r"\.mid\.1", ".mid.attn_1"),
    (r"\.mid\.2", ".mid.block_2"),
)
MAGVIT2 = by_rules(
    (r"^encoder\.net\.down\.(\d+)\.conv", r"encoder.down.\1.downsample"),
    upper("decoder.up.{}.upsample.conv1"),
    (r"\.mid\.", ".mid_block."),
)
MASKGIT = by_rules(upper("decoder.up.{}.upsample_conv"))


def llamagen(tensors, levels):
    """The coarsest level of the decoder is the first."""
    found = {"quantize.codebook_used": torch.zeros(7)}
    for name, tensor in tensors.items():
        half, _, *rest = name.split(".")
        new = f"{half}.{'.'.join(rest)}"
        if "_conv" in name:
            new = f"{name.split('.')[1]}.{rest[0]}"
        elif half == "quantizer":
            new = name.replace("quantizer", "quantize")
        elif rest[0] in ("level", "down", "up"):
            part = {"block": "res"}.get(rest[2], rest[2])
            part = part if rest[0] == "level" else f"{rest[0]}sample.conv"
            level = int(rest[1]) + (rest[0] == "up")
            level = level if half == "encoder" else levels - 1 - level
            new = ".".join((half, "conv_blocks", str(level), part, *rest[3:]))
        found[new] = tensor
    return found


FLAX = {"norm1": "GroupNorm_0", "norm2": "GroupNorm_1"}
FLAX |= {"conv1": "Conv_0", "conv2": "Conv_1", "nin_shortcut": "Conv_2"}


def flax(tensors, levels):
    """Blocks and convolutions are counted as they are made; kernels are turned."""
    count = 1 + max(int(name.split(".")[3]) for name in tensors if ".mid." in name)
    found = {"quantizer": {"codebook": tensors["quantizer.embedding.weight"].numpy()}}
    for name, tensor in tensors.items():
        half, _, part, *rest = name.split(".")
        if half == "quantizer":
            continue
        path = {"conv_in": ["Conv_0"], "norm_out": ["GroupNorm_0"]}.get(part)
        if part == "conv_out":
            path = [f"Conv_{1 if half == 'encoder' else levels}"]
        elif part == "up":
            path = [f"Conv_{levels - 1 - int(rest[0])}"]
        elif part in ("level", "mid"):
            place = int(rest[0]) if part == "level" else levels
            place = place if half == "encoder" else levels - place
            block = int(rest[2 if part == "level" else 0])
            path = [f"ResBlock_{place * count + block}", FLAX[rest[-2]]]
        kind = rest[-1] if rest[-1] == "bias" else "scale" if tensor.ndim == 1 else "kernel"
        inner = found.setdefault(half, {})
        for each in path:
            inner = inner.setdefault(each, {})
        inner[kind] = (tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor).numpy()
    return found


@st.composite
def sizes(draw):
    """What every net of them may differ in."""
    groups = draw(st.sampled_from([1, 2, 3, 32]))
    mult = draw(st.lists(st.integers(1, 3), min_size=2, max_size=5))
    return {
        "image_size": 2 ** (len(mult) - 1) * draw(st.integers(1, 4)),
        "channels": draw(st.sampled_from([1, 3])),
        "width": groups * (1 if groups == 32 else draw(st.integers(1, 3))),
        "multipliers": mult,
        "num_blocks": draw(st.integers(1, 3)),
        "latent_dim": draw(st.integers(2, 6)),
        "norm_groups": groups,
    }


def attentive(draw, found, deepest, **own):
    """With attention in the middle, and at some levels, or at the deepest alone."""
    levels = len(found["multipliers"])
    some = st.sets(st.integers(0, levels - 1)) if not deepest else st.just({levels - 1})
    where = sorted(draw(some))
    return {
        **found, "name": "vqgan", "decoder_blocks": found["num_blocks"] + 1,
        "code_dim": draw(st.integers(2, 9)), "codebook_size": draw(st.integers(2, 40)),
        "attention": where, "decoder_attention": where, "middle_attention": True, **own,
    }  # fmt: skip


def plain(draw, found):
    return {
        **found, "name": "vqgan", "decoder_blocks": found["num_blocks"], "bias": False,
        "codebook_size": draw(st.integers(2, 40)), "shortcut": "output", "downsampling": "pool",
        "last_kernel": 1, "unit_range": True, "attention": [], "decoder_attention": [],
    }  # fmt: skip


SYSTEMS = {
    "taming": (TAMING, lambda draw, found: attentive(draw, found, False)),
    "ibq": (TAMING, lambda draw, found: attentive(draw, found, False, distance="dot")),
    "llamagen": (llamagen, lambda draw, found: attentive(draw, found, True, distance="cosine")),
    "maskgit_vqgan": (MASKGIT, plain),
    "maskgit_flax": (flax, plain),
    "open_magvit2": (MAGVIT2, lambda draw, found: {**found, "name": "magvit2"}),
}


@torch.no_grad()
def untrained(model):
    torch.manual_seed(0)
    tokenizer = make_tokenizer(model).eval()
    for parameter in tokenizer.parameters():  # norms too, so that none is taken for another
        parameter.add_(0.3 * torch.randn(parameter.shape))
    return tokenizer


def write(tensors, levels, layout, path):
    foreign = layout(tensors, levels)
    if layout is flax:
        path.write_bytes(packed({"params": foreign}))
    else:
        torch.save({"state_dict": {f"module.{name}": each for name, each in foreign.items()}}, path)


@pytest.mark.parametrize("system", SYSTEMS)
@given(data=st.data())
@settings(max_examples=6, deadline=None, database=None, phases=[Phase.generate])
def test_any_size_is_read_back(system, tmp_path_factory, data):
    layout, options = SYSTEMS[system]
    model = options(data.draw, data.draw(sizes()))
    tokenizer = untrained(model)
    folder = tmp_path_factory.mktemp(system)
    levels = len(model["multipliers"])
    write(tokenizer.state_dict(), levels, layout, folder / "file")
    given_sizes = {"norm_groups": model["norm_groups"], "resolution": model["image_size"]}
    if model["norm_groups"] == 32:  # as in all published files
        del given_sizes["norm_groups"]
    import_weights(system, folder / "file", folder / "out", sizes=given_sizes)
    found = load_tokenizer(folder / "out")
    assert found.config == tokenizer.config
    images = torch.rand(1, model["channels"], *(2 ** (levels - 1) * side for side in (2, 3)))
    codes = tokenizer.encode(images * 2 - 1)
    assert torch.equal(found.encode(images * 2 - 1), codes)
    assert torch.equal(found.decode(codes), tokenizer.decode(codes))


def test_a_resolution_is_looked_for_and_checked():
    assert resolution_of(Sizes({})) == 256
    assert resolution_of(Sizes({"ddconfig": {"resolution": 64}})) == 64
    assert resolution_of(Sizes({"ddconfig": {"resolution": 64}, "resolution": 32})) == 32
    with pytest.raises(ValueError, match="resolution should be a whole number above 0, not 'x'"):
        resolution_of(Sizes({"resolution": "x"}))


@pytest.mark.parametrize("groups", [0, True, 2.0, [4]])
def test_groups_are_checked(groups):
    with pytest.raises(ValueError, match="norm_groups should be a whole number above 0"):
        groups_of(Sizes({"norm_groups": groups}), 8)


def test_groups_are_asked_for_where_those_of_published_files_do_not_divide():
    with pytest.raises(ValueError, match="8 channels do not divide into 32 groups .* by --sizes"):
        groups_of(Sizes({}), 8)


SMALL = {
    "image_size": 8, "width": 4, "multipliers": [1, 2], "norm_groups": 2, "latent_dim": 3,
    "codebook_size": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("encoder.net.conv_in.weight", (8,), r"conv_in.weight is \(8,\), not of 4 axes"),
        ("encoder.net.conv_in.weight", (0, 3, 3, 3), "no multiples of 0"),
        ("encoder.net.level.1.block.0.conv1.weight", (6, 4, 3, 3), r"\[4, 6\] channels"),
        ("encoder.net.conv_out.weight", None, "it lacks encoder.net.conv_out.weight"),
    ],
)
def test_shapes_of_no_such_net_are_refused(name, shape, said):
    tensors = make_tokenizer({**SMALL, "name": "vqgan"}).state_dict()
    del tensors[name]
    if shape is not None:
        tensors[name] = torch.zeros(shape)
    with pytest.raises(ValueError, match=said):
        vqgan_options(tensors, Sizes({"norm_groups": 2}))

"""What every imported model is held against: the answers of its project's own code."""

import json

import torch

from maskgit import Pipeline
from maskgit.importing import import_weights
from tests.importing.golden import checkpoint, golden, inputs, outputs
from vqgan.tokenizers import load_tokenizer

TOLERANCE = 1e-5
"""Of the largest value."""


def sizes_of(system):
    folder = golden(system)
    name = "fixture.json" if (folder / "fixture.json").is_file() else "config.json"
    return json.loads((folder / name).read_text())


def imported(importer, system, out, **options):
    """The folder that `maskgit import` makes of a golden file."""
    return import_weights(importer, checkpoint(system), out, sizes=sizes_of(system), **options)


def assert_close(found, wanted, tolerance=TOLERANCE, scale=None):
    assert found.shape == wanted.shape
    error = (found - wanted).abs().max() / (wanted if scale is None else scale).abs().max()
    assert error <= tolerance, f"off by {error:.1e} of the largest value"


def check_tokenizer(folder, system, *, unit_range=False, grid=None):
    """codes are the project's, and its images; grid: (h, w) of the codes, if not of the images."""
    tokenizer = load_tokenizer(folder)
    given, wanted = inputs(system), outputs(system)

    def ours(images):
        return images * 2 - 1 if unit_range else images

    images = ours(given["images"])
    grid = grid or tokenizer.grid_of(*images.shape[2:])
    codes = tokenizer.encode(images)
    assert codes.shape == (len(images), *grid)
    assert torch.equal(codes.flatten(1), wanted["indices"][: len(images)])
    for name, of in (("recon", wanted["indices"]), ("decoded", given["codes"])):
        if name in wanted:
            rows = len(wanted[name])
            decoded = tokenizer.decode(of[:rows].view(rows, *grid))
            raw = ours(wanted[name])
            assert_close(decoded, raw.clamp(-1, 1), scale=raw)
    return tokenizer


def check_generator(folder, system, *, null=True, cut=lambda logits: logits):
    """Logits with and without labels, at asked cells, by cached passes, after loading and in bf16.

    null: whether it knows what no label is. cut: the project's logits -> (batch, cells, codes).
    """
    pipeline = Pipeline.from_pretrained(folder)
    net, given = pipeline.net, inputs(system)
    kind = "codes" if "codes_full" in given else "groups"
    labels = given["labels"]
    dropped = torch.where(given["drop"], net.num_classes, labels) if "drop" in given else labels
    conditions = {"full": labels, "masked": dropped, "null": None, "allmask": labels}
    for name, condition in conditions.items():
        if name == "null" and not null:
            continue
        codes = given[f"{kind}_{'masked' if name == 'null' else name}"].view(-1, *net.grid)
        codes = torch.where(codes < 0, net.codebook_size, codes)
        wanted = cut(outputs(system)[f"logits_{name}"])
        found = pipeline.logits(codes, None if condition is None else condition.tolist())
        assert found.dtype == torch.float32 and found.shape[:3] == codes.shape
        assert_close(found.flatten(1, 2), wanted)
        check_cells(pipeline, codes, condition, found)
    check_low_precision(pipeline, codes, labels)
    return pipeline


@torch.no_grad()
def check_cells(pipeline, codes, condition, wanted):
    """The answer at some cells only, and by passes that keep keys and values."""
    net, model = pipeline.net, pipeline.model
    condition = torch.full((len(codes),), net.num_classes) if condition is None else condition
    cells = torch.rand(codes.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    found = model.to_logits(net.embed_at(codes, cells, condition))
    assert_close(found, wanted[cells])
    passes = net.sampling_passes(2)
    before = codes.masked_fill(cells, net.codebook_size)
    passes.embed_at(before, condition, torch.ones_like(cells))  # whole: its keys are kept
    every = passes.embed_at(codes, condition, torch.ones_like(cells))  # all cells run again
    assert_close(model.to_logits(every), wanted.flatten(0, 2))


def check_low_precision(pipeline, codes, labels):
    """bf16 is off by little more than what rounded weights alone make: it rounds the rest, too."""
    exact = pipeline.logits(codes, labels.tolist())
    weights = {name: value.clone() for name, value in pipeline.net.state_dict().items()}
    pipeline.to(precision="bf16")
    low = pipeline.logits(codes, labels.tolist())
    rounded = pipeline.to(precision="fp32").logits(codes, labels.tolist())
    pipeline.net.load_state_dict(weights)
    assert 0 < (low - exact).norm() < 2.5 * (rounded - exact).norm() < 0.1 * exact.norm()

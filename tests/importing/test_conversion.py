"""maskgit import: what is written, and what is refused in a line."""

import json
import subprocess
import sys

import pytest
import torch

from maskgit import Pipeline
from maskgit.importing import class_names, import_weights, read_sizes
from maskgit.model.published.halton import Halton
from maskgit.pipeline.saved import pipeline_hashes
from tests.conftest import cli, repo
from tests.importing.parity import imported
from vqgan.tokenizer import Tokenizer

SMALL = {"codebook_size": 16, "grid": (4, 4), "num_classes": 3, "dim": 24, "depth": 2, "heads": 3}


def halton_file(path, change=lambda tensors: tensors, **sizes):
    """A generator of random weights under the names of its own project."""
    torch.manual_seed(0)
    net = Halton(**{**SMALL, "hidden": 32, **sizes})
    theirs = {}
    for name, tensor in net.state_dict().items():
        for new, old in (
            ("labels.", "cls_emb."), ("codes.", "tok_emb."), ("positions", "pos_emb.weight"),
            ("registers", "reg_tokens.weight"), ("to_logits.", "head."),
            ("blocks.", "transformer.layers."), ("norm_", "last_norm.norm_final."),
            ("last_factors.", "last_norm.mlp.1."), (".to_factors.", ".mlp.1."),
            (".w1.", ".ff.w1."), (".w2.", ".ff.w2."), (".w3.", ".ff.w3."), (".wq.", ".attn.wq."),
            (".wk.", ".attn.wk."), (".wv.", ".attn.wv."), (".wo.", ".attn.wo."),
        ):  # fmt: skip
            name = name.replace(new, old, 1)
        theirs[f"{name}.weight" if name.endswith((".ln1", ".ln2")) else name] = tensor
    for name in ("head.weight", "head.bias"):  # with a row for the mask token
        theirs[name] = torch.cat((theirs[name], theirs[name][:1]))
    torch.save({"iter": 1, "model_state_dict": change(theirs)}, path)
    return path, net.eval()


def tokenizer_file(path, codebook_size=16, image_size=16):
    quantizer = {"name": "vq", "codebook_size": codebook_size, "codebook_dim": 4}
    small = {"widths": [8, 8], "num_blocks": 0, "latent_dim": 4, "patch_size": 2}
    torch.manual_seed(0)
    made = Tokenizer(image_size=image_size, channels=3, **small, quantizer=quantizer)
    made.save(path / "tokenizer.safetensors")
    return path


HEADS = {"heads": 3}


def test_a_generator_with_its_tokenizer_is_a_pipeline_like_any_other(tmp_path):
    path, net = halton_file(tmp_path / "a.pth")
    tokenizer = tokenizer_file(tmp_path / "t", image_size=32)
    out = import_weights("halton", path, tmp_path / "out", tokenizer=tokenizer, sizes=HEADS)
    pipeline = Pipeline.from_pretrained(out)
    assert pipeline.tokenizer.image_size == 16, "that of the net's grid, not of its training"
    assert pipeline.generate([0, 2])[0].size == (16, 16)
    assert {*pipeline_hashes(out)} == {"model", "tokenizer"} and "paper" in pipeline.presets
    codes, labels = torch.randint(17, (2, 4, 4)), torch.tensor([2, 0])
    with torch.no_grad():
        assert torch.equal(pipeline.logits(codes, [2, 0]), net(codes, labels))
    again = import_weights("halton", path, tmp_path / "out", sizes=HEADS)
    assert again == out and not (out / "tokenizer.safetensors").exists()
    assert Pipeline.from_pretrained(out).logits(codes).shape == (2, 4, 4, 16)


def test_logits_take_a_label_of_each_grid_and_as_many_grids_as_there_are(tmp_path):
    path, _ = halton_file(tmp_path / "a.pth")
    pipeline = Pipeline.from_pretrained(
        import_weights("halton", path, tmp_path / "out", sizes=HEADS)
    )
    codes = torch.full((3, 4, 4), 16)
    assert torch.equal(pipeline.logits(codes), pipeline.logits(codes, [3, 3, 3]))
    with pytest.raises(ValueError, match="3 grids need as many labels, not 2"):
        pipeline.logits(codes, [0, 1])
    with pytest.raises(ValueError, match="4x4 cells only"):
        pipeline.logits(codes[:, :2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "head.bias"}, r"lacks head\.bias"),
        (lambda t: {**t, "extra.weight": torch.ones(1)}, r"holds extra\.weight, which such"),
        (lambda t: {**t, "in_proj.weight": torch.ones(1)}, r"folds its codes"),
        (lambda t: {**t, "pos_emb.weight": torch.ones(15, 24)}, "its positions are 15, which is"),
        (lambda t: {**t, "cls_emb.weight": torch.ones(4, 23)}, r"its cls_emb\.weight is \(4, 23\)"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_by_what_it_lacks(tmp_path, change, message):
    path, _ = halton_file(tmp_path / "a.pth", change)
    with pytest.raises(ValueError, match=rf"a\.pth is no whole file of halton: .*{message}"):
        import_weights("halton", path, tmp_path / "out", sizes=HEADS)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_what_does_not_belong_together_is_refused(tmp_path):
    path, _ = halton_file(tmp_path / "a.pth")
    with pytest.raises(ValueError, match="has 8 codes, the generator draws 16"):
        other = tokenizer_file(tmp_path / "t", codebook_size=8)
        import_weights("halton", path, tmp_path / "out", tokenizer=other, sizes=HEADS)
    with pytest.raises(ValueError, match="is a tokenizer itself: leave --tokenizer out"):
        imported("llamagen", "llamagen_vq", tmp_path / "l", tokenizer=other)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("task: maskgit\n")
    with pytest.raises(ValueError, match="is a training run: import into a folder of its own"):
        import_weights("halton", path, tmp_path / "run", sizes=HEADS)
    with pytest.raises(ValueError, match="unknown system 'halto', did you mean 'halton'"):
        import_weights("halto", path, tmp_path / "out")


def test_the_command_says_in_a_line_what_is_wrong(tmp_path, capsys):
    path, _ = halton_file(tmp_path / "a.pth")
    assert cli("import", "halton", path, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and '{"heads": ...}, by --sizes' in said
    (tmp_path / "sizes.json").write_text(json.dumps(HEADS))
    words = ("--sizes", tmp_path / "sizes.json")
    assert cli("import", "halton", path, "--out", tmp_path / "out", *words) == 0
    assert cli("info", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert (
        "published by Halton-MaskGIT (https://github.com/valeoai/Halton-MaskGIT), licence" in said
    )
    assert cli("sample", tmp_path / "out", "--out", tmp_path / "grid.png") == 2
    assert (
        "`maskgit import llamagen hub:FoundationVision/LlamaGen/vq_ds16_c2i.pt --out T`"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("text", ["no JSON", "[1]", ""])
def test_sizes_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(ValueError, match=r"sizes\.json is no JSON"):
        read_sizes(tmp_path / "sizes.json")


def test_classes_of_imagenet_are_told_apart():
    names = class_names(1000)
    assert len({*names}) == 1000 and names[1] == "goldfish" and names[207] == "golden retriever"
    assert names[134] == "crane bird" and names[517] == "crane"
    assert class_names(3) == ["0", "1", "2"]


PEAK = """
import sys
from pathlib import Path

def resident(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024

from maskgit.importing import import_weights
import_weights("halton", sys.argv[1], sys.argv[2] + "-first", sizes={"heads": 3})
before = resident("VmHWM")
import_weights("halton", sys.argv[3], sys.argv[2], sizes={"heads": 8})
print(resident("VmHWM") - before)
"""


def test_memory_stays_below_a_third_more_than_the_weights(tmp_path):
    """Of 200 MB; what the imports of modules take was there before."""
    small, _ = halton_file(tmp_path / "small.pth")
    path, _ = halton_file(tmp_path / "a.pth", dim=1024, depth=3, heads=8, hidden=2816)
    words = [sys.executable, "-c", PEAK, str(small), str(tmp_path / "out"), str(path)]
    done = subprocess.run(words, cwd=repo(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 1.3 * path.stat().st_size


def test_the_same_file_becomes_the_same_bits(tmp_path):
    first, second = (imported("llamagen", "llamagen_vq", tmp_path / name) for name in "ab")
    assert sorted(path.name for path in first.iterdir()) == [
        ".lock", "README.md", "tokenizer.safetensors"
    ]  # fmt: skip
    name = "tokenizer.safetensors"
    assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("heads", [0, -4, 4.5, True, "four", None])
def test_sizes_are_whole_numbers(tmp_path, heads):
    path, _ = halton_file(tmp_path / "a.pth")
    with pytest.raises(ValueError, match="heads"):
        import_weights("halton", path, tmp_path / "out", sizes={"heads": heads})


def test_shapes_that_nobody_thought_of_are_a_line(tmp_path, capsys):
    for name in ("pos_emb.weight", "tok_emb.weight", "head.weight"):
        for odd in (torch.tensor(1.0), torch.ones(0), torch.ones(2, 2, 2)):
            path, _ = halton_file(tmp_path / "a.pth", lambda t, n=name, o=odd: {**t, n: o})
            assert cli("import", "halton", path, "--out", tmp_path / "out") == 2
            assert capsys.readouterr().err.count("\n") == 1


def test_a_tokenizer_is_not_written_over_a_generator(tmp_path):
    path, _ = halton_file(tmp_path / "a.pth")
    out = import_weights("halton", path, tmp_path / "out", sizes=HEADS)
    with pytest.raises(ValueError, match="holds a generator: import into a folder of its own"):
        imported("llamagen", "llamagen_vq", out)
    assert Pipeline.from_pretrained(out).logits(torch.zeros(1, 4, 4, dtype=torch.int64)).shape


def test_half_precision_stays_as_it_is_published_and_computes_in_float32(tmp_path):
    def halved(tensors):
        return {name: tensor.half() for name, tensor in tensors.items()}

    path, net = halton_file(tmp_path / "a.pth", halved)
    out = import_weights("halton", path, tmp_path / "out", sizes=HEADS)
    pipeline = Pipeline.from_pretrained(out)
    assert pipeline.precision == "fp32"
    codes = torch.randint(17, (2, 4, 4))
    with torch.no_grad():
        wanted = net.half().float()(codes)
    assert torch.allclose(pipeline.logits(codes), wanted, atol=1e-5)


@pytest.mark.parametrize("lost", ["reg_tokens.weight", "last_norm.mlp.1.weight"])
def test_a_tensor_that_a_system_is_known_by_is_named_if_it_alone_is_missing(tmp_path, lost):
    def without(tensors):
        return {name: tensor for name, tensor in tensors.items() if name != lost}

    path, _ = halton_file(tmp_path / "a.pth", without)
    with pytest.raises(ValueError, match=f"as one of halton it lacks {lost}"):
        import_weights("halton", path, tmp_path / "out", sizes=HEADS)


def test_a_tokenizer_of_other_groups_of_bits_is_told_how_it_would_fit(tmp_path):
    from tests.importing.golden import checkpoint
    from tests.importing.parity import sizes_of

    sizes = sizes_of("maskbit_tokenizer") | {"codebook_splits": 5}
    tokenizer = import_weights(
        "maskbit", checkpoint("maskbit_tokenizer"), tmp_path / "t", sizes=sizes
    )
    with pytest.raises(ValueError, match=r'draws 2: import .* of {"codebook_splits": 2}'):
        import_weights(
            "maskbit", checkpoint("maskbit_generator"), tmp_path / "out", tokenizer=tokenizer,
            sizes=sizes_of("maskbit_generator"),
        )  # fmt: skip

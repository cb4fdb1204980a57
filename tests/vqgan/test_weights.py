import pytest
import torch
from safetensors.torch import save_file

from vqgan.weights import content_hash, load_weights, save_weights, weights_of


def test_weights_carry_their_config(tmp_path):
    path = tmp_path / "a" / "w.safetensors"
    save_weights(path, {"x": torch.arange(3)}, "tokenizer", {"model": {"widths": [1, 2]}})
    config, tensors = load_weights(path, "tokenizer")
    assert config == {"model": {"widths": [1, 2]}, "kind": "tokenizer"} and torch.equal(
        tensors["x"], torch.arange(3)
    )


def test_what_is_not_ours_is_refused(tmp_path):
    foreign = tmp_path / "f.safetensors"
    kind = tmp_path / "k.safetensors"
    broken = tmp_path / "b.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    save_weights(kind, {"x": torch.zeros(2)}, "maskgit", {})
    broken.write_bytes(kind.read_bytes()[:40])
    with pytest.raises(
        ValueError, match="a foreign format, kind unknown; expected maskgit-1, kind tokenizer"
    ):
        load_weights(foreign, "tokenizer")
    with pytest.raises(ValueError, match="kind maskgit; expected maskgit-1, kind tokenizer"):
        load_weights(kind, "tokenizer")
    with pytest.raises(ValueError, match="is not a safetensors file, or is cut short"):
        load_weights(broken, "maskgit")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_weights(tmp_path / "nowhere", "maskgit")


def test_the_content_hash_knows_the_weights_and_the_model_only(tmp_path):
    def write(name, value, run, model=1, **how):
        save_weights(
            tmp_path / name,
            {"y": torch.zeros(2), "x": torch.tensor(value)},
            "tokenizer",
            {"model": {"dim": model, **how}, "run": run},
        )
        return content_hash(tmp_path / name, "tokenizer")

    assert len({write(str(i), 1.0, i) for i in range(5)}) == 1
    assert write("x", 1.0, 0) == write("y", 1.0, 0, channels_last=True), (
        "a file that knows more of how it is run"
    )
    assert len({write("a", 1.0, 0), write("b", 2.0, 0), write("c", 1.0, 0, model=2)}) == 3


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer at .*: train it first"):
        weights_of(tmp_path, "tokenizer")

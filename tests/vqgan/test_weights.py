import pytest
import torch
from safetensors.torch import save_file

from vqgan.weights import (
    content_hash,
    load_module,
    load_weights,
    save_weights,
    weights_of,
    within_memory,
)


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


def linear(config):
    return torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(config["model"]["layers"])))


def written(path, tensors, **model):
    save_weights(path, tensors, "tokenizer", {"model": model})
    return path


def test_a_module_is_made_of_a_file_and_no_draw_is_taken_for_the_trial(tmp_path):
    module = linear({"model": {"layers": 2}})
    path = written(tmp_path / "w.safetensors", module.state_dict(), layers=2)
    torch.manual_seed(0)
    linear({"model": {"layers": 2}})
    after = torch.get_rng_state()
    torch.manual_seed(0)
    again, config = load_module(path, "tokenizer", linear)
    assert torch.equal(torch.get_rng_state(), after)
    assert config["model"] == {"layers": 2}
    assert torch.equal(again[1].weight, module[1].weight)


def test_a_header_asks_for_no_more_than_its_file_holds(tmp_path):
    tensors = linear({"model": {"layers": 1}}).state_dict()
    path = tmp_path / "w.safetensors"
    for number in (200, 2**20):
        written(path, tensors, layers=number)
        with pytest.raises(ValueError, match="more parameters than the 2 tensors of the file"):
            load_module(path, "tokenizer", linear)
    for model in ({"layers": 2**21}, {"layers": 1, "x": {"y": [{"codes_per_cell": 3}]}}):
        written(path, tensors, **model)
        with pytest.raises(ValueError, match="a header that cannot be: (layers|codes_per_cell) is"):
            load_module(path, "tokenizer", linear)


def test_tensors_of_another_shape_or_of_other_numbers_do_not_fit(tmp_path):
    whole = linear({"model": {"layers": 1}}).state_dict()
    path = tmp_path / "w.safetensors"
    for tensors, message in (
        (whole | {"0.bias": torch.zeros(3)}, r"0.bias is \(3,\), not \(2,\)"),
        (whole | {"0.bias": torch.zeros(2, dtype=torch.int32)}, "0.bias is .* torch.int32"),
        (whole | {"more": torch.zeros(1)}, "more is"),
        ({"0.bias": whole["0.bias"]}, "0.weight is none"),
        (whole | {"0.bias": torch.zeros(2).to(torch.float8_e4m3fn)}, "numbers that are not ours"),
        (whole | {"0.bias": torch.full((2,), torch.nan)}, "not all numbers of 0.bias are finite"),
    ):
        written(path, tensors, layers=1)
        with pytest.raises(ValueError, match=message):
            load_module(path, "tokenizer", linear)
    load_module(
        written(path, {k: v.bfloat16() for k, v in whole.items()}, layers=1), "tokenizer", linear
    )


def test_what_does_not_fit_into_memory_is_refused_before_it_is_made():
    made = within_memory(lambda: torch.nn.Linear(3, 2), "model")
    assert made.weight.device.type == "cpu"
    with pytest.raises(
        ValueError, match=r"model has 1.1e\+12 numbers, whose training takes .* GiB"
    ):
        within_memory(lambda: torch.nn.Linear(2**20, 2**20), "model")
    with pytest.raises(ValueError, match="model is larger than can be"):
        within_memory(lambda: torch.nn.Conv2d(2**31, 2**31, 9), "model")


def test_no_draw_is_made_to_know_whether_it_fits():
    torch.manual_seed(0)
    wanted = torch.nn.Linear(3, 2).weight
    torch.manual_seed(0)
    assert torch.equal(within_memory(lambda: torch.nn.Linear(3, 2), "model").weight, wanted)


def test_what_half_precision_cannot_hold_stays_as_it_is(tmp_path):
    tensors = {
        "small": torch.tensor([1.0]),
        "large": torch.tensor([1e6]),
        "count": torch.tensor([3]),
    }
    save_weights(tmp_path / "w", tensors, "tokenizer", {}, torch.float16)
    found = load_weights(tmp_path / "w", "tokenizer")[1]
    kinds = {name: tensor.dtype for name, tensor in found.items()}
    assert kinds == {"small": torch.float16, "large": torch.float32, "count": torch.int64}

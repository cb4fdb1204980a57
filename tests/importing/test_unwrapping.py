"""Which part of a checkpoint holds the weights, and their plain names."""

import pytest
import torch

from maskgit.importing.unwrapping import unwrap

W, V = torch.ones(2), torch.zeros(2)


@pytest.mark.parametrize(
    ("root", "wrapper"),
    [
        ({"a.weight": W}, None),
        (
            {"model": {"a.weight": W}, "optimizer": {"state": {0: {"exp_avg": V}}}, "steps": 3},
            "model",
        ),
        ({"ema": {"a.weight": W}, "model": {"a.weight": V}}, "ema"),
        ({"ema": None, "model": {"a.weight": W}}, "model"),
        ({"ema": {"decay": 0.9}, "model": {"a.weight": W}}, "model"),
        ({"vq": {"a.weight": V}, "vq_ema": {"a.weight": W}}, "vq_ema"),
        ({"vq": {"a.weight": W}, "discriminator": {"a.weight": V}}, "vq"),
        ({"state_dict": {"a.weight": W, "epoch": 3}, "callbacks": {}}, "state_dict"),
        ({"model_state_dict": {"a.weight": W}, "optimizer_state_dict": None}, "model_state_dict"),
        ({"model": {"state_dict": {"a.weight": W}}, "args": object()}, "model.state_dict"),
        ({"ema": {"model": {"a.weight": W}, "updates": 3}, "model": {"a.weight": V}}, "ema.model"),
        ({"params": {"a": {"weight": W}}}, "params"),
        ({"network": {"a.weight": W}, "optim": {"state": V}, "epoch": 1}, "network"),
        ({"a": {"weight": W}, "b": {}}, "a"),
    ],
)
def test_the_part_with_the_weights_is_found(root, wrapper):
    tensors, found = unwrap(root)
    assert found == wrapper
    assert all(tensor is W for tensor in tensors.values())
    assert list(tensors) == (["weight"] if found == "a" else ["a.weight"])


def test_parts_that_are_nets_stay_apart():
    root = {"encoder": {"conv": {"weight": W}}, "decoder": {"conv": {"weight": V}}}
    assert unwrap(root) == ({"encoder.conv.weight": W, "decoder.conv.weight": V}, None)


def test_names_begin_as_their_net_has_them():
    """`model` is a part of the names here, as of TiTok's generator, and no wrapper."""
    root = {"model.embeddings.weight": W, "model.lm_head.bias": V}
    assert unwrap(root) == (root, None)


WRAPPED = (
    "module.a.weight _orig_mod.a.weight module._orig_mod.a.weight a._orig_mod.weight "
    "_orig_mod.module.a.module.weight module.module.a.weight a.weight"
)


@pytest.mark.parametrize("name", WRAPPED.split())
def test_what_wrappers_of_modules_put_in_names_is_removed(name):
    assert unwrap({"model": {name: W}}) == ({"a.weight": W}, "model")


def test_names_that_only_look_like_it_stay():
    root = {"submodule.weight": W, "a.module_list.weight": V}
    assert unwrap(root) == (root, None)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("inside", [True, False])
def test_the_average_takes_the_place_of_plain_weights(prefix, inside):
    average = f"{prefix if inside else ''}a.weight".replace(".", "")
    root = {
        f"{prefix}a.weight": V,
        f"{prefix}a.bias": W,
        "loss.weight": W,
        f"model_ema.{average}": W,
        "model_ema.decay": torch.tensor(0.9),
        "model_ema.num_updates": torch.tensor(3),
    }
    tensors, _ = unwrap({"state_dict": root})
    assert tensors == {"a.weight": W, "a.bias": W, "loss.weight": W}


def test_two_tensors_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two tensors are named 'a'"):
        unwrap({"a": W, "module.a": V})


def test_there_may_be_no_tensors():
    assert unwrap({"model": {"a": 1}, 3: W, "x": {4: W}}) == ({}, None)

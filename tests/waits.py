"""Waits: what makes the host wait for an accelerator, counted where there is none.

Whatever is not on the CPU (fake tensors of CUDA, or `meta`, which follows gradients, too) stands
for one. The rule: an operation waits if it has a tensor there and its result, or its size, depends
on values (torch's own tags say so); if it is indexed by booleans, or by indices of the host; or if
it copies between both sides without `non_blocking`.
"""

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskgit import machine

aten = torch.ops.aten
TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
COPIES = {aten._to_copy, aten.copy_, aten.copy}


def is_there(value):
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


MAKING = {torch.tensor, torch.as_tensor, torch.asarray}
INDEXING = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}


class Made(TorchFunctionMode):
    """Tensors that are made of numbers, and lists as indices: copies that `meta` does not show."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in MAKING and not isinstance(args[0], torch.Tensor):
            if torch.device(kwargs.get("device") or torch.get_default_device()).type != "cpu":
                self.found.append(func.__name__)
        elif func in INDEXING and is_there(args[0]):
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, (list, np.ndarray)) for part in parts):
                self.found.append("an index of the host")
        return func(*args, **kwargs)


class Waits(TorchDispatchMode):
    """found: the names of all operations that wait; seen: how many there were on a device."""

    def __init__(self):
        super().__init__()
        self.found, self.seen = [], 0
        self.made = Made(self.found)

    def __enter__(self):
        self.made.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.made.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        here = any(map(is_there, tree_leaves((args, kwargs))))
        self.seen += here
        if self.waits(func, args, kwargs, here):
            self.found.append(str(func))
        return func(*args, **kwargs)

    def waits(self, func, args, kwargs, here):
        kind = func.overloadpacket
        if kind in COPIES:
            to = kwargs.get("device") if kind is aten._to_copy else args[0].device
            source = args[0] if kind is aten._to_copy else args[1]
            to = source.device if to is None else torch.device(to)
            given = {field.name: n for n, field in enumerate(func._schema.arguments)}
            place = given["non_blocking"]
            later = kwargs.get("non_blocking", args[place] if place < len(args) else False)
            crosses = (to.type == "cpu") != (source.device.type == "cpu")
            return crosses and not later and source.numel() > 0
        if not here:
            return False
        if kind in INDEXED:
            indices = [index for index in args[1] if index is not None]
            return any(i.dtype in (torch.bool, torch.uint8) or not is_there(i) for i in indices)
        if kind is aten.repeat_interleave:
            return kwargs.get("output_size") is None
        return bool(TAGS & set(func.tags))


def hurry(patch):
    """Copies to the device go through pinned memory, as they do where there is one."""
    patch.setattr(machine, "cpu_only", lambda: False)
    patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)

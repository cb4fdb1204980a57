"""Sharding: a module in training that no process holds alone (FSDP2, torch's fully_shard).

Each of n processes keeps an n-th of every parameter, of its gradient, its average and its moments;
the weights of a block are gathered while it runs. A checkpoint is the same as without: whole
tensors, which the main process is given one after the other.

By torch itself: accelerate's plugin is for accelerators only, wants the optimiser to be its own,
and knows neither averages nor files of this format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from maskgit.config.sections import TrainConfig
from maskgit.model import AROUND, without_graphs
from maskgit.training.ema import EMA
from maskgit.training.learner import Learner, Module

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.distributed.tensor import DTensor  # it brings torch's compiler: seconds


LEAST = TorchVersion("2.14")
"""The first torch that this was seen to be right with."""


def make_learner(module: Module, accelerator: Accelerator, train: TrainConfig) -> Learner[Module]:
    """In shards if `train.shard` says so, and there are several processes."""
    if not train.shard or accelerator.num_processes == 1:
        return Learner(module, accelerator, train)
    if torch.__version__ < LEAST:
        raise ValueError(
            f"train.shard=true needs torch {LEAST} or later, here is {torch.__version__}: with 2.9 "
            "the losses were not those of a run without it"
        )
    return ShardedLearner(module, accelerator, train)


class ShardedLearner(Learner[Module]):
    """A Learner whose process holds a part of each parameter, and steps that alone.

    `parameters` are these parts, plain tensors in the memory of the module's shards; `hollow` is a
    module whose weights are there only while all of them are needed.
    """

    is_sharded = True

    def _spread(self, averaged: bool) -> nn.Module:
        accelerator, module = self.accelerator, self.module
        self.ema = EMA(module, self.train.ema_decay) if averaged else None
        self.hollow = deepcopy(module) if self.ema is None else cast(Module, self.ema.module)
        prepared = accelerator.prepare_model(module, device_placement=False, evaluation_mode=True)
        split_up(module, accelerator)
        self.shards = cast("list[DTensor]", list(module.parameters()))
        self.parameters = [nn.Parameter(shard.to_local().detach()) for shard in self.shards]
        self._empty()
        self.hollow.to(accelerator.device)
        if self.ema is not None:
            followed = [mine.detach() for mine in self.parameters]
            self.ema.follow(followed, [mine.clone() for mine in followed])
        return cast(nn.Module, prepared)

    def together(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged in each part: kept for the last one, they would be whole."""
        return nullcontext()

    def clip(self) -> Tensor:
        """Scale the gradient down to clip_norm; returns the norm that it had, over all shards."""
        for shard, mine in zip(self.shards, self.parameters, strict=True):
            mine.grad = None if shard.grad is None else cast("DTensor", shard.grad).to_local()
        own = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = cast(Tensor, self.accelerator.reduce(own.square(), "sum")).sqrt()
        torch.nn.utils.clip_grads_with_norm_(self.parameters, self.train.clip_norm, norm)
        return norm

    def apply(self, step: int, finite: Tensor | None = None) -> None:
        """As of a Learner."""
        super().apply(step, finite)
        self.module.zero_grad(set_to_none=True)

    def give_up(self) -> None:
        """As of a Learner."""
        super().give_up()
        self.module.zero_grad(set_to_none=True)

    def alike(self) -> dict[str, Tensor]:
        """Buffers: of a parameter no two processes hold the same."""
        return dict(self.module.named_buffers())

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, on all processes together, `averaged` can be run."""
        if self.ema is not None:
            self._fill(self.ema.averaged)
        try:
            with without_graphs():  # which know weights by where they lay
                yield
        finally:
            self._empty()

    @contextmanager
    def opened(self) -> Iterator[Module]:
        """Inside, on all processes together, a module whose weights this one then takes."""
        self._fill(self.parameters)
        yield self.hollow
        self._take(self.hollow.state_dict(), self.module, self.parameters)
        self._empty()

    def _fill(self, values: Sequence[Tensor]) -> None:
        """Gather weights of which each process has its parts."""
        for place, shard, value in zip(self.hollow.parameters(), self.shards, values, strict=True):
            place.data = gathered(value, shard)

    def _empty(self) -> None:
        for place in self.hollow.parameters():
            place.data = torch.empty(0, device=self.accelerator.device)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """As of a Learner, on the main process; all take part.

        The others get a number for each tensor, which is finite where all of the tensor is.
        """
        state, stepped = super().state(), self._stepped()
        for name, number in self._numbers().items():
            state["module"][name] = self._told(self.parameters[number], number)
            if self.ema is not None:
                state["ema"][f"module.{name}"] = self._told(self.ema.averaged[number], number)
        for name, value in state["optimizer"].items():
            if value.ndim:
                number = stepped[int(name.split(":")[0])]
                state["optimizer"][name] = self._told(value, number)
        return state

    def load_state(self, state: dict[str, dict[str, Tensor]], run: str) -> None:
        """As of a Learner."""
        self.check_state(state, run)
        self._take(state["module"], self.module, self.parameters)
        if self.ema is not None:
            averaged = {name.removeprefix("module."): v for name, v in state["ema"].items()}
            self._take(averaged, self.ema.module, self.ema.averaged)
            self.ema.n_averaged.copy_(averaged["n_averaged"])
        shards = {id(mine): n for n, mine in enumerate(self.parameters)}
        self.load_moments(
            state["optimizer"],
            lambda mine, value: own_part(value, self.shards[shards[id(mine)]]),
        )

    @torch.no_grad()
    def _take(
        self, whole: Mapping[str, Tensor], module: nn.Module, parts: Sequence[Tensor]
    ) -> None:
        """Copy this process's parts of whole tensors, and the module's buffers."""
        for name, number in self._numbers().items():
            parts[number].copy_(own_part(whole[name], self.shards[number]))
        for name, buffer in module.named_buffers():
            if name in whole:
                buffer.copy_(whole[name])

    def _numbers(self) -> dict[str, int]:
        """Which of the shards each parameter of the module is, by its names."""
        numbers = {id(shard): number for number, shard in enumerate(self.shards)}
        named = self.module.named_parameters(remove_duplicate=False)
        return {name: numbers[id(shard)] for name, shard in named}

    def _stepped(self) -> list[int]:
        """Which of the shards each parameter of the optimiser is."""
        numbers = {id(mine): number for number, mine in enumerate(self.parameters)}
        return [numbers[id(p)] for group in self.optimizer.param_groups for p in group["params"]]

    def _told(self, value: Tensor, number: int) -> Tensor:
        whole = gathered(value.detach(), self.shards[number])
        if self.accelerator.is_main_process:
            return whole.cpu()
        return torch.where(whole.isfinite().all(), 0.0, torch.nan).cpu()


def split_up(module: nn.Module, accelerator: Accelerator) -> None:
    """Leave each process a part of all parameters, which are gathered for each block alone, and for
    as long as the module runs, of what belongs to no block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    parts = list(module.modules())
    for block in [block for part in parts for block in getattr(part, "gathered_blocks", ())]:
        fully_shard(block, mesh=mesh)
        setattr(block, AROUND, _run)
        register_fsdp_forward_method(block, AROUND)
    fully_shard(module, mesh=mesh)


def _run(work: Callable[..., Any], *given: Any) -> Any:
    return work(*given)


def gathered(part: Tensor, like: DTensor) -> Tensor:
    """The whole of a tensor of which each process has its part, split as `like` is."""
    from torch.distributed.tensor import DTensor

    spread = DTensor.from_local(
        part.detach(), like.device_mesh, like.placements, run_check=False, shape=like.shape,
        stride=like.stride(),
    )  # fmt: skip
    return spread.full_tensor()


def own_part(whole: Tensor, like: DTensor) -> Tensor:
    """This process's part of a whole tensor; of a scalar, which all have, itself."""
    if not whole.ndim:
        return whole
    mesh, local = like.device_mesh, like.to_local()
    parts = whole.chunk(mesh.size())
    rank = mesh.get_local_rank()
    return parts[rank].to(local.device) if rank < len(parts) else torch.empty_like(local)

"""Learner: a module in training, with its optimiser, its moving average and its processes."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import AdamW

from maskgit.config.sections import TrainConfig
from maskgit.stopping import stop_requested
from maskgit.training.ema import EMA
from vqgan.devices import answers_at_once

if TYPE_CHECKING:
    from accelerate import Accelerator


def learning_rate_at(step: int, train: TrainConfig, peak: float) -> float:
    """Linear warm-up to `peak`, then a cosine down to final_share of it at the last step."""
    if step < train.warmup_steps:
        return peak * (step + 1) / train.warmup_steps
    done = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return peak * (
        train.final_share + (1 - train.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    )


def decayed(module: nn.Module) -> set[nn.Parameter]:
    """The parameters that weight decay is for: matrices of linear and convolution layers."""
    found: set[nn.Parameter] = set()
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            shared = parametrize.is_parametrized(layer)
            weight = (
                cast(Any, layer.parametrizations)["weight"].original if shared else layer.weight
            )
            found.add(cast(nn.Parameter, weight))
    return found


Module = TypeVar("Module", bound=nn.Module)
PARTS = ("module", "ema", "optimizer")
"""Of a learner's state, each a file of a checkpoint."""


class Learner(Generic[Module]):
    """AdamW with decay on matrices only, gradient clipping and an EMA around one module."""

    is_sharded = False  # a process then holds a part of each tensor only
    _kept: Sequence[Tensor] = ()  # the buffers before this step

    def __init__(
        self,
        module: Module,
        accelerator: Accelerator,
        train: TrainConfig,
        *,
        learning_rate: float | None = None,
        averaged: bool = True,
    ) -> None:
        self.module: Module = module
        self.train, self.accelerator = train, accelerator
        self.peak = train.learning_rate if learning_rate is None else learning_rate
        self.ema: EMA | None = None
        self.ddp: nn.Module = self._spread(averaged)
        matrices = decayed(module)
        own = list(zip(module.parameters(), self.parameters, strict=True))
        groups = [
            {
                "params": [mine for whole, mine in own if whole in matrices],
                "weight_decay": train.weight_decay,
            },
            {"params": [mine for whole, mine in own if whole not in matrices], "weight_decay": 0.0},
        ]
        self.optimizer = AdamW(
            [g for g in groups if g["params"]], lr=self.peak, betas=train.betas, fused=True
        )
        self.outcome: Outcome | None = None  # of the last step
        self.has_stepped = False  # since `keep_buffers`
        self.finite: Tensor | None = None  # bool (), of the last step, where nobody waits for it

    def _spread(self, averaged: bool) -> nn.Module:
        """Move the module to its device and among the processes -> what a step calls.

        `parameters` are then what this process steps of each of the module's.
        """
        self.module.to(self.accelerator.device)
        # before `prepare`, which patches its forward
        self.ema = EMA(self.module, self.train.ema_decay) if averaged else None
        self.parameters = list(self.module.parameters())
        return self.accelerator.prepare(self.module)  # type: ignore[no-any-return]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, on all processes together, `averaged` can be run."""
        yield

    @contextmanager
    def opened(self) -> Iterator[Module]:
        """Inside, on all processes together, the module whose weights are to be written."""
        yield self.module

    def alike(self) -> dict[str, Tensor]:
        """What all processes must hold the same bits of."""
        return self.module.state_dict()

    @property
    def averaged(self) -> Module:
        """The module with averaged weights, in eval mode."""
        assert self.ema is not None
        return cast(Module, self.ema.module)

    def together(self, last: bool) -> AbstractContextManager[None]:
        """The context of one micro-batch: gradients are exchanged in the last one only."""
        return nullcontext() if last else self.accelerator.no_sync(self.ddp)

    def keep_buffers(self) -> None:
        """Before a step, which moves codebooks and running means while it may yet be given up."""
        self._kept = [buffer.clone() for buffer in self.module.buffers()]
        self.has_stepped = False

    @torch.no_grad()
    def give_up(self) -> None:
        """Undo what a step did before its weights were changed, as the host found out."""
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, kept in zip(self.module.buffers(), self._kept, strict=True):
            buffer.copy_(kept)
            buffer.grad = None  # where the quantizers' library adds up the parts of a step
        if (forget := getattr(self.module, "forget", None)) is not None:
            forget()

    @torch.no_grad()
    def _keep_or_restore(self, finite: Tensor) -> None:
        """The buffers as the step moved them, or as they were kept before it, if they were."""
        for kept, buffer in zip(self._kept, self.module.buffers(), strict=False):
            buffer.copy_(torch.where(finite, buffer, kept))

    def left_out(self) -> None:
        """The last step changed nothing, as an accelerator found out itself."""
        if self.ema is not None:
            self.ema.take_back()

    def clip(self) -> Tensor:
        """Scale the gradient down to clip_norm; returns the norm that it had."""
        return torch.nn.utils.clip_grad_norm_(self.parameters, self.train.clip_norm)

    def apply(self, step: int, finite: Tensor | None = None) -> None:
        """Step, average, clear; finite: bool (), without which nothing changes."""
        self.has_stepped, self.finite = True, finite
        if finite is not None:
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self._keep_or_restore(finite)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.train, self.peak)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(finite)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that a resumed run needs: named tensors in "module", "ema" and "optimizer"."""
        values = self.optimizer.state_dict()["state"]
        moments = {
            f"{index}:{key}": value
            for index, entry in values.items()
            for key, value in entry.items()
        }
        ema = {} if self.ema is None else {"ema": self.ema.state_dict()}
        return {"module": self.module.state_dict(), "optimizer": moments, **ema}

    def load_state(self, state: dict[str, dict[str, Tensor]], run: str) -> None:
        """Undo `state`; ValueError, with the name of the run, if it is of another model."""
        self.check_state(state, run)
        self.module.load_state_dict(state["module"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.load_moments(state["optimizer"], laid_out_like)

    def check_state(self, state: dict[str, dict[str, Tensor]], run: str) -> None:
        """ValueError, with the name of the run, if it is of another model."""
        if state["module"].keys() != self.module.state_dict().keys():
            raise ValueError(
                f"the checkpoint of {run} is of a model that this version of maskgit builds "
                "differently: set run=... to start a new run; what was trained can still be sampled"
            )

    def load_moments(
        self, state: dict[str, Tensor], laid_out: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """The optimiser's, each as its parameter lies: laid_out(parameter, value)."""
        own = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            index, key = name.split(":")
            moments.setdefault(int(index), {})[key] = laid_out(own[int(index)], value)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


@contextmanager
def whole(learners: Mapping[str, Learner[Any]]) -> Iterator[None]:
    """Inside, on all processes together, what they average can be run."""
    with ExitStack() as stack:
        for learner in learners.values():
            stack.enter_context(learner.whole())
        yield


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """What an optimiser keeps of a parameter, on its device and with its strides; scalars as they
    are.

    Files hold row after row, weights may be channels_last, and a fused optimiser walks through
    both as they lie in memory.
    """
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


class Outcome:
    """Of a step, over all processes: its loss, and whether all was finite, when that is asked.

    An accelerator is asked for it once it has the work of the next step.
    """

    def __init__(self, values: Tensor) -> None:
        """values: the loss, the norm of each gradient, and whether a process was told to stop."""
        self.values, self.done = values.detach(), None
        self.is_open = not answers_at_once(values.device)
        if self.is_open and torch.accelerator.is_available():
            self.values = self.values.to("cpu", non_blocking=True)
            self.done = torch.Event(device=values.device)
            self.done.record()

    @property
    def loss(self) -> float:
        """FloatingPointError if it, or a gradient, is not finite."""
        loss, *norms, _ = self._read()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        if not all(map(math.isfinite, norms)):
            raise FloatingPointError("the gradient is not finite")
        return loss

    @property
    def stop(self) -> int:
        """The signal that this process, or another one, was told to stop by; 0 for none."""
        return (stop_requested() or signal.SIGTERM) if self._read()[-1] else 0

    def _read(self) -> list[float]:
        if self.done is not None:
            self.done.synchronize()
        return self.values.tolist()  # type: ignore[no-any-return]


def finish(loss: Tensor, *turns: tuple[Learner[Any], int]) -> list[Tensor]:
    """End a step: clip all gradients, and then, if everything is finite, apply them.

    loss: of this process; turns: learners, each with the step of its own clock. Returns the norms.
    FloatingPointError, on all processes together, before any weight is changed. An accelerator
    finds out itself that a step must change nothing, and the first learner's `outcome` says so.
    """
    norms, first = [learner.clip() for learner, _ in turns], turns[0][0]
    stop = torch.full((), float(stop_requested()), device=loss.device)
    values = torch.stack([loss.detach().float(), *(norm.float() for norm in norms), stop])
    values = first.accelerator.reduce(values, "mean")
    first.outcome = Outcome(values)
    finite = None
    if first.outcome.is_open:
        finite = values.isfinite().all()
    else:
        _ = first.outcome.loss
    for learner, step in turns:
        learner.apply(step, finite)
    return norms

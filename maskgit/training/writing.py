"""Writing: a thread writes what a training saves, while the next steps run."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from maskgit.machine import wait
from maskgit.training.learner import whole
from vqgan.devices import answers_at_once

Module = TypeVar("Module", bound=nn.Module)


class Writing:
    """At most one save on its way; what it failed with is raised by the next question for it.

    As a context: whatever ends it, the save that is on its way is ended first.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, *works: Callable[[], object]) -> None:
        """Do these in turn, unless one fails; the save before them is waited for."""
        self.wait()
        self._thread = threading.Thread(target=self._do, args=works, name="save")
        self._thread.start()

    def _do(self, *works: Callable[[], object]) -> None:
        try:
            for work in works:
                work()
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        """Raise what a save has failed with, now that it is known; one on its way goes on."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until nothing is on its way; raises what it failed with."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Writing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as own:
            if error is None:
                raise
            print(f"the last save failed, too: {own}", file=sys.stderr, flush=True)


def in_memory(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Files of named tensors, as they are now, in memory of the host: pinned, for accelerators."""
    found = {
        file: {name: _to_host(value) for name, value in values.items()}
        for file, values in tensors.items()
    }
    wait()
    return found


def exporting(task: Any, is_main: bool) -> Callable[[], object] | None:
    """What exports a task's weights as they are now, on the main process; all take part."""
    with whole(task.learners):
        return task.exporting() if is_main else None


def frozen(module: Module) -> Module:
    """A copy of a module as it is now, in memory of the host."""
    own = {id(value): _to_host(value) for value in (*module.parameters(), *module.buffers())}
    for parameter in module.parameters():
        own[id(parameter)] = nn.Parameter(own[id(parameter)], requires_grad=False)
    wait()
    return copy.deepcopy(module, dict(own))


def _to_host(value: Tensor) -> Tensor:
    """A copy, which is there once the device was waited for."""
    value = value.detach()
    if answers_at_once(value.device):
        return value.clone(memory_format=torch.contiguous_format)
    return value.to("cpu", non_blocking=True)  # through pinned memory

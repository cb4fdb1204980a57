"""Signals that ask a process to stop: noted where there is something to save, else raised."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT")
"""That mean stop: of a person, a closed terminal, and the batch systems of clusters."""
LAUNCHERS = ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
"""Of the environment that accelerate and torchrun give to the processes they start."""
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h

Item = TypeVar("Item")
_noted: list[int] = []
"""The first signal since the outermost `listening` or `raising` began: a process's, as signals."""


class Stopped(BaseException):  # no error: nothing that deals with errors may swallow it
    """A signal asked to stop; what there was to save was saved first."""

    def __init__(self, signal_number: int, where: str = "") -> None:
        super().__init__(
            f"stopped by {signal.Signals(signal_number).name}{where}; the same command goes on"
        )
        self.signal_number = signal_number


def stop_requested() -> int:
    """The number of the signal that asked to stop, 0 for none."""
    return _noted[0] if _noted else 0


def check_stop() -> None:
    """Stopped, if a signal asked for it: for loops, once in a few seconds at least."""
    if number := stop_requested():
        raise Stopped(number)


def unless_stopped(items: Iterable[Item]) -> Iterator[Item]:
    """Each of them in turn; Stopped, if a signal asked for it."""
    for item in items:
        check_stop()
        yield item


def _note(number: int, frame: FrameType | None) -> None:
    _noted.append(number)


def _raise(number: int, frame: FrameType | None) -> None:
    _noted.append(number)
    if len(_noted) == 1:  # a second one would end the tidying up that the first began
        raise Stopped(number)


@contextmanager
def listening() -> Iterator[None]:
    """Inside, signals are noted only: the work asks for them where it can stop."""
    with _handled_by(_note):
        yield


@contextmanager
def raising() -> Iterator[None]:
    """Inside, the first signal raises Stopped wherever the work is; temporary files are removed."""
    with _handled_by(_raise):
        yield


def leave_to_parent(worker: int) -> None:
    """In a data worker: a signal to the whole group is its parent's, which ends it by SIGTERM."""
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Ignored signals stay so (nohup); outside the main thread, as in a notebook, nothing is done.

    A process that a launcher started is told to stop when that dies: some pass no signal on.
    """
    old: dict[int, Any] = {}
    numbers = [getattr(signal, name) for name in SIGNALS]
    outermost = not any(signal.getsignal(number) in (_note, _raise) for number in numbers)
    try:
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, handler)
    except ValueError:
        yield
        return
    if outermost:
        _noted.clear()
        _follow_launcher()
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)
        if outermost:
            _noted.clear()


def _follow_launcher() -> None:
    if sys.platform == "linux" and any(name in os.environ for name in LAUNCHERS):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

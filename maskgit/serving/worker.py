"""One thread that does all work with the model, and tells what it finds on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch

Tell = Callable[[Any], None]
"""What a work is given, to tell something by."""


class Left(BaseException):  # no error: nothing that deals with errors may swallow it
    """Nobody waits for the work any longer."""


class Worker:
    """A thread that lives as long as the process; works wait for each other."""

    def __init__(self) -> None:
        self.works: SimpleQueue[Callable[[], None]] = SimpleQueue()
        Thread(target=self._live, daemon=True).start()

    @torch.no_grad()
    def _live(self) -> None:
        while True:
            self.works.get()()

    def told(self, work: Callable[[Tell], None]) -> Iterator[Any]:
        """What `work(tell)` tells; what it raises is raised here.

        Once this iterator is closed, Left is raised inside the work where it next tells something.
        """
        found: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        left = Event()

        def tell(what: Any) -> None:
            if left.is_set():
                raise Left
            found.put(("told", what))

        def run() -> None:
            try:
                if not left.is_set():
                    work(tell)
                found.put(("done", None))
            except Left:
                return
            except BaseException as error:  # of the other thread's, whatever it is
                found.put(("failed", error))

        self.works.put(run)
        try:
            while (message := found.get())[0] == "told":
                yield message[1]
            if message[0] == "failed":
                raise message[1]
        finally:
            left.set()

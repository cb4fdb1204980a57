"""The stages of `quickstart`, and how long each took, over all calls."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vqgan.files import replacing


class Stages:
    """Runs stages; stages.json remembers how long each took, over all calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        with suppress(FileNotFoundError, ValueError):
            self.seconds = json.loads(path.read_text())

    def run(self, name: str, work: Callable[[], Any], *, continues: bool = False) -> Any:
        """What the work returns. continues: its seconds are added to those of earlier calls."""
        print(f"== {name}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            return work()
        finally:
            before = self.seconds.get(name, 0.0) if continues else 0.0
            self.seconds[name] = before + time.perf_counter() - start
            with replacing(self.path) as aside:
                aside.write_text(json.dumps(self.seconds))

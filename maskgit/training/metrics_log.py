"""`metrics.jsonl`: the numbers of a run, one JSON object a line, each with its step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqgan.files import append, replacing


class MetricsLog:
    """Writes it; rows after a resumed step are dropped."""

    def __init__(self, path: Path, after_step: int) -> None:
        self.path = path
        rows = [row for row in read_metrics(path) if row["step"] <= after_step]
        with replacing(path) as aside:
            aside.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row and flush it."""
        append(self.path, json.dumps({"step": step, **values}))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows

"""`metrics.jsonl`: the numbers of a run, one JSON object a line, each with its step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

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


class Sums:
    """Of what steps log, until a row is made of their means."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()  # a discriminator joins between two rows

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """The scalars of one step."""
        for key, value in logs.items():
            self.values[key] = self.values.get(key, torch.zeros_like(value)) + value
            self.counts[key] += 1

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Over the steps and all processes, on each of them; none without a step."""
        return {
            key: accelerator.reduce(value / self.counts[key], "mean").item()
            for key, value in self.values.items()
        }


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

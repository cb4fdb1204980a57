"""Training and sampling, us against the peers: every side in its quickest way, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from maskgit.benchmark.peers import SIDES, Shape, Side, Way
from maskgit.benchmark.plan import OURS, Plan, Row, row_of, size_of, talk
from maskgit.benchmark.timing import Work, alternate, operations, peak_bytes, ratios, spread_of
from maskgit.machine import seconds_of
from maskgit.model.backbones import num_parameters
from maskgit.processes import this_process


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def work_of(side: Side, part: str) -> Work:
    """A training step, or a batch of samples."""
    return side.train_step if part == "training" else side.sample_batch


TRIAL = 10_000
"""Cells times million parameters of a trial: few, where the model is large."""


def trial_of(name: str, shape: Shape, part: str) -> tuple[Way, int, float]:
    """A side's quickest way, its depth, and the seconds of one turn at the whole shape."""
    device, entry = this_process().device, SIDES[name]
    small = shape._replace(
        batch=min(shape.batch, max(1, TRIAL // (shape.cells * shape.params))),
        rounds=min(shape.rounds, 3),
    )
    times: dict[Way, float] = {}
    depth = None
    for way in entry.ways_on(device):
        side = Side(entry, small, way, device, depth)
        depth = side.depth
        work_of(side, part)()
        times[way] = min(seconds_of(work_of(side, part)) for _ in range(2))
    assert depth is not None
    best = min(times, key=times.__getitem__)
    return best, depth, times[best] * size_of(shape) / size_of(small)


def _sides_at(shape: Shape, part: str, left: float) -> tuple[dict[str, Side], list[Row]]:
    """Every side in its quickest way, run once, and a row for each that fails.

    One row for all if `left` seconds are too few.
    """
    trials: dict[str, tuple[Way, int, float]] = {}
    sides: dict[str, Side] = {}
    failed = []
    for name in SIDES:
        try:
            trials[name] = trial_of(name, shape, part)
        except Exception as error:  # a peer may fail in any way; the table says how
            failed.append(row_of(part, shape, name, **{"why not": _reason(error)}))
            if name == OURS:
                raise
    turn = sum(seconds for _, _, seconds in trials.values())
    if TURNS * turn > left:
        return {}, [
            row_of(
                part,
                shape,
                "all",
                **{"why not": f"left out: about {TURNS * turn:.0f} s (see --longest)"},
            )
        ]
    for name, (way, depth, _) in trials.items():
        try:
            side = Side(SIDES[name], shape, way, this_process().device, depth)
            work_of(side, part)()
            sides[name] = side
        except Exception as error:
            failed.append(row_of(part, shape, name, **{"why not": _reason(error)}))
            if name == OURS:
                raise
    return sides, failed


TURNS = 6
"""Runs of a side at a shape at least: first, warm-up, two turns, operations, memory."""


def _share_of_peak(name: str, side: Side, seconds: float, plan: Plan) -> float:
    """Of the machine's matrix products; counted at a batch of 8, since the times drawn matter."""
    setting = side.setting
    shape = setting.shape._replace(batch=8)
    plain = Side(SIDES[name], shape, side.way._replace(flash=False), setting.device, side.depth)
    flops = operations(plain.train_step) / 8 * setting.shape.batch
    return flops / seconds / plan.peaks["bf16" if side.way.bf16 else "fp32"]


def _against_peers(plan: Plan, part: str, unit: str) -> Iterator[Row]:
    """Training or sampling, all sides at all shapes."""
    end = time.perf_counter() + plan.longest
    too_large = math.inf
    for shape in plan.shapes(sampling=part == "sampling"):
        left = end - time.perf_counter()
        if size_of(shape) >= too_large or left <= 0:
            yield row_of(
                part,
                shape,
                "all",
                **{"why not": "left out: the time of this part is over (see --longest)"},
            )
            continue
        talk(
            f"{part}: {shape.cells} cells, {shape.params} M, batch {shape.batch}, "
            f"rounds {shape.rounds or '-'}"
        )
        sides, failed = _sides_at(shape, part, left)
        yield from failed
        if not sides:
            too_large = size_of(shape)
            continue
        works = {name: work_of(side, part) for name, side in sides.items()}
        found = alternate(works, seconds=min(plan.seconds, left), least=2)
        against = ratios(found, OURS)
        amount = shape.batch * (shape.cells if part == "training" else 1)
        for name, side in sides.items():
            speed = spread_of([amount / seconds for seconds in found[name]])
            rest: Row = {unit: speed, "time over ours": against[name], "way": str(side.way)}
            rest["parameters"] = num_parameters(side.module)
            if part == "training":
                rest["share of peak"] = _share_of_peak(
                    name, side, spread_of(found[name]).median, plan
                )
            if plan.memory:
                rest["peak memory MiB"] = peak_bytes(works[name]) / 2**20
            yield row_of(part, shape, name, **rest)


def training(plan: Plan) -> Iterator[Row]:
    """One optimiser step: forward, backward, clip, AdamW."""
    return _against_peers(plan, "training", "tokens/s")


def sampling(plan: Plan) -> Iterator[Row]:
    """Whole grids, without guidance and without decoding."""
    return _against_peers(plan, "sampling", "images/s")

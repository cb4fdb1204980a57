import json

from maskgit.benchmark import (
    parts,
    speed,
    timing,
)
from maskgit.benchmark.parts import PARTS
from maskgit.benchmark.peers import SIDES
from maskgit.benchmark.plan import Plan


def test_a_run_writes_tables_json_and_a_picture(tiny_sides, tmp_path, monkeypatch):
    plan = Plan(cells=(16,), params=(5,), batch=(2,), rounds=(2,), seconds=0.0)
    monkeypatch.setattr(parts, "matmul_peak", lambda *_: 1e9)
    text = speed.run_benchmark(["training", "sampling"], plan, tmp_path)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["found"]["rows"]
    assert {row["side"] for row in rows if row["part"] == "sampling"} == set(SIDES)
    ours = next(row for row in rows if row["part"] == "training" and row["side"] == "maskgit")
    assert (
        ours["time over ours"]["median"] == 1
        and ours["share of peak"] > 0
        and ours["peak memory MiB"] > 0
    )
    assert ours["tokens/s"]["low"] <= ours["tokens/s"]["median"] <= ours["tokens/s"]["high"]
    assert "**sampling**" in text and (tmp_path / "benchmark.png").stat().st_size > 5000
    assert (tmp_path / "benchmark.md").read_text() in text + "\n"


def test_pieces_in_one_folder_stand_side_by_side(tmp_path, monkeypatch):
    def part(plan):
        for batch in plan.batch:
            sizes = {"part": "training", "cells": 16, "million parameters": 5, "batch": batch}
            for side in ("maskgit", "theirs") if plan.longest else ("all",):
                yield {
                    **sizes,
                    "side": side,
                    "time over ours": timing.Spread(1.0, 0.5, plan.seconds),
                }

    monkeypatch.setitem(PARTS, "training", part)
    monkeypatch.setattr(
        speed,
        "machine",
        lambda plan: [{"part": "machine", "side": "fp32", "GFLOP/s": plan.seconds}],
    )

    def found(**plan):
        speed.run_benchmark(["training"], Plan(**{"batch": (2,), **plan}), tmp_path)
        rows = json.loads((tmp_path / "benchmark.json").read_text())["found"]["rows"]
        return [
            (row.get("batch"), row["side"], row.get("time over ours", {}).get("high"))
            for row in rows
        ][1:]

    two = [(2, "maskgit", 8.0), (2, "theirs", 8.0)]
    assert found() == two
    assert found(batch=(1,), seconds=9.0) == [(1, "maskgit", 9.0), (1, "theirs", 9.0), *two]
    assert found(batch=(2, 3), longest=0.0)[2:] == [*two, (3, "all", 8.0)], (
        "what is left out now was measured before"
    )
    assert found(batch=(3, 1))[:2] == [(1, "maskgit", 8.0), (1, "theirs", 8.0)], "the newest counts"
    assert found()[4:] == [(3, "maskgit", 8.0), (3, "theirs", 8.0)]
    monkeypatch.setattr(speed, "versions", lambda: {"torch": "another"})
    assert found() == two, "of other versions nothing is kept"

"""One accelerator: what it does in training, tokenizing and sampling, in six minutes, with no data.

    out/gpu.json  gpu.md  gpu.png

Codes, labels and images are random: nothing here depends on what they are. A part that fails, as by
too little memory, says so in its row, and the others run.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from maskgit.benchmark.device import (
    CLASSES,
    Bench,
    Scale,
    Steps,
    doubled,
    fits,
    held_memory,
    tidy,
)
from maskgit.benchmark.peers import SIDES, Shape, Side, Way
from maskgit.benchmark.plan import Row, talk
from maskgit.benchmark.speed import tables, versions
from maskgit.config.loading import load
from maskgit.config.sections import TokenizerConfig
from maskgit.evaluation.tables import keep, write_text
from maskgit.model.graphs import without_graphs
from maskgit.model.passes import compiled_layers
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.plots import lines
from maskgit.precision import matmul_peak
from maskgit.processes import this_process
from vqgan.tokenizer import Tokenizer

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bf16 operations a second by the maker's data sheet, in fp32 sums; by a part of the name."""


def training(bench: Bench) -> Iterator[Row]:
    """Tokens a second and the share of the peak, at one batch size and at the largest that fits;
    the largest net compiled, too."""
    scale = bench.scale
    *small, largest = scale.nets
    for name in small:
        yield from _trained(bench, name, [scale.batch])
    rows = list(_trained(bench, largest, doubled(scale.batch, scale.most)))
    yield from rows
    fitting = [row["batch"] for row in rows]
    for batch in reversed(fitting):
        torch._dynamo.reset()
        yield from _trained(bench, largest, [batch], compiled=True)


def _trained(
    bench: Bench, name: str, batches: Sequence[int], compiled: bool = False
) -> Iterator[Row]:
    """Of a net, at the first batch size and the last that fits."""
    how, scale = "compiled" if compiled else "eager", bench.scale
    if bench.late(f"training, {name}, {how}, batch {batches[0]}"):
        return
    work, steps = Steps(bench, name).operations(), Steps(bench, name, compiled)
    found: list[Row] = []
    for batch in batches:
        talk(f"training: {name}, {how}, batch {batch}")
        with held_memory() as memory:
            seconds = fits(partial(bench.seconds, steps.of(batch), 3))
        if seconds is None:
            break
        row: Row = {"part": "training", "net": name, "how": how, "batch": batch}
        row |= {"ms": 1e3 * seconds, "thousand tokens/s": batch * scale.side**2 / seconds / 1e3}
        row |= {"share of peak": batch * work / seconds / bench.peak, "GiB": memory[0]}
        found = [*found[:1], row]
    yield from found
    del steps
    tidy()


def sampling(bench: Bench) -> Iterator[Row]:
    """Images a second with guidance, which runs the net twice, in bf16; without decoding."""
    scale, name = bench.scale, list(bench.scale.nets)[-1]
    model = bench.net(name).eval().to(torch.bfloat16)
    ways: dict[str, dict[str, Any]] = {
        "eager": {},
        "graphs": {},
        "compiled": {},
        "graphs, halton": {"sampler": "halton"},
        "kept keys, halton refresh 6": {"sampler": "halton", "refresh": 6},
    }
    for how, options in ways.items():
        if bench.late(f"sampling, {how}"):
            return
        if how == "compiled":
            model.net.layers_at = compiled_layers()
        for rounds in _rounds_of(how, scale.rounds):
            for batch in scale.samples[-2:] if "halton" in how else scale.samples:
                talk(f"sampling: {how}, {rounds} rounds, batch {batch}")
                work = partial(_sample, model, batch, steps=rounds, **options)
                with without_graphs(how == "eager"), held_memory() as memory:
                    seconds = bench.seconds(work, 3)
                row = {"part": "sampling", "net": name, "how": how, "rounds": rounds}
                row |= {"batch": batch, "ms": 1e3 * seconds, "images/s": batch / seconds}
                yield row | {"GiB": memory[0]}
        if how == "compiled":
            del model.net.layers_at


def _rounds_of(how: str, rounds: Sequence[int]) -> Sequence[int]:
    """All, or of what is only compared with, one."""
    if how in ("eager", "compiled"):
        return rounds[:1]
    return rounds[-1:] if "halton" in how else rounds


def _sample(model: NonAutoregressiveWrapper, batch: int, **options: Any) -> Tensor:
    labels = torch.arange(batch) % CLASSES
    return model.generate(condition=labels, guidance=3.0, seeds=range(batch), **options)


def tokenizing(bench: Bench) -> Iterator[Row]:
    """Images a second through the tokenizer of a config, to codes, back, and in training."""
    scale, spec = bench.scale, bench.scale.tokenizer
    if isinstance(spec, str):
        spec = cast(TokenizerConfig, load(spec)).model.model_dump()
    torch.manual_seed(0)
    model = Tokenizer(image_size=scale.image_size, channels=3, **spec).to(bench.device)
    shape = (scale.images, 3, scale.image_size, scale.image_size)
    images = torch.rand(shape, device=bench.device) * 2 - 1
    yield from _tokenizer_training(bench, model.train(), images[: max(1, scale.images // 4)])
    model.eval()
    for how in ("fp32", "bf16", "bf16, compiled"):
        if how == "bf16, compiled":
            model.decoder.compile()
        bf16 = torch.autocast(bench.device.type, torch.bfloat16, enabled=how != "fp32")
        with torch.no_grad(), bf16:
            codes = model.encode(images)
            works = {
                "encode": partial(model.encode, images),
                "decode": partial(model.decode, codes),
            }
            for what, work in works.items():
                if what == "encode" and "compiled" in how:
                    continue
                if bench.late(f"tokenizing, {how}, {what}"):
                    return
                talk(f"tokenizing: {how}, {what}")
                with held_memory() as memory:
                    seconds = bench.seconds(work)
                row: Row = {"part": "tokenizing", "what": what, "how": how, "batch": scale.images}
                row |= {"ms": 1e3 * seconds, "images/s": scale.images / seconds}
                yield row | {"GiB": memory[0]}


def _tokenizer_training(bench: Bench, model: Tokenizer, images: Tensor) -> Iterator[Row]:
    """Without a discriminator and a perceptual net, whose weights a package does not hold."""
    if bench.late("tokenizing, training"):
        return
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16):
            out = model(images)
            loss = (out.images.float() - images).abs().mean() + out.loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    talk("tokenizing: bf16, training")
    with held_memory() as memory:
        seconds = fits(partial(bench.seconds, step))
    if seconds is not None:
        row: Row = {"part": "tokenizing", "what": "training", "how": "bf16", "batch": len(images)}
        row |= {"ms": 1e3 * seconds, "images/s": len(images) / seconds, "GiB": memory[0]}
        yield row


def waiting(bench: Bench) -> Iterator[Row]:
    """How often the host waits for the device, as torch counts it."""
    if bench.device.type == "cpu" or not torch.cuda.is_available():
        return
    name = next(iter(bench.scale.nets))
    model = bench.net(name).eval().to(torch.bfloat16)
    step = Steps(bench, name).of(bench.scale.batch)
    works: dict[str, Callable[[], object]] = {
        f"a sampling by {sampler}": partial(_sample, model, 2, steps=4, sampler=sampler)
        for sampler in ("confidence", "random", "halton", "remask", "ancestral")
    }
    for what, work in {**works, "a training step": step}.items():
        work()
        work()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits = [w for w in found if "synchronizing CUDA operation" in str(w.message)]
        yield {"part": "waiting", "what": what, "waits": len(waits)}


def peers(bench: Bench) -> Iterator[Row]:
    """The same number of parameters in bf16, without guidance: times over ours."""
    scale = bench.scale
    shape = Shape(scale.side**2, scale.peers, scale.batch, scale.rounds[0])
    ours: dict[str, float] = {}
    for name, entry in SIDES.items():
        if bench.late(f"peers, {name}"):
            return
        talk(f"peers: {name}")
        try:
            side = Side(entry, shape, Way(True, True), bench.device)
            found = {
                "training": bench.seconds(side.train_step, 3),
                "sampling": bench.seconds(side.sample_batch, 3),
            }
        except (ImportError, RuntimeError) as error:
            talk(f"peers: {name}: {str(error).splitlines()[0]}")
            continue
        ours = ours or found
        row: Row = {"part": "peers", "side": name, "million parameters": scale.peers}
        row |= {"batch": scale.batch}
        for what, seconds in found.items():
            row |= {f"{what} ms": 1e3 * seconds, f"{what} over ours": seconds / ours[what]}
        yield row
        del side
        tidy()


PARTS = (waiting, sampling, tokenizing, peers, training)


def run_gpu(out: Path, scale: Scale | None = None, longest: float | None = None) -> str:
    """Run all parts -> tables in Markdown; `out` has JSON and a picture, too.

    longest: seconds after which nothing more is begun. ValueError where there is no accelerator,
    unless a scale is given.
    """
    device = this_process().device
    if device.type == "cpu" and scale is None:
        raise ValueError("there is no accelerator here: `maskgit benchmark` times CPUs")
    scale = scale or Scale()
    scale = scale if longest is None else replace(scale, longest=longest)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    measured = matmul_peak(device, torch.bfloat16, None if device.type != "cpu" else 128)
    peak = next((value for key, value in PEAKS.items() if key in name), measured)
    about = {"device": name, "versions": versions()}
    rows: list[Row] = [
        {"part": "machine", "device": name, "torch": torch.__version__,
         "bf16 TFLOP/s, measured": measured / 1e12, "shares are of": peak / 1e12}
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(scale, Path(scratch), device, peak)
        for part in PARTS:
            try:
                for row in part(bench):
                    rows.append(row)
                    _write(rows, about, out)  # what is measured is kept, whatever comes after
            except RuntimeError as error:
                talk(f"{part.__name__}: {str(error).splitlines()[0]}")
                rows.append({"part": part.__name__, "failed": str(error).splitlines()[0]})
            tidy()
    return _write(rows, about, out)


def _write(rows: list[Row], about: Mapping[str, Any], out: Path) -> str:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    keep(out / "gpu.json", about, {"date": date, "rows": rows})
    text = tables(rows)
    write_text(out / "gpu.md", text)
    drawn: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        if row["part"] == "sampling" and "images/s" in row:
            points = drawn.setdefault(f"{row['how']}, {row['rounds']} rounds", [])
            points.append((row["batch"], row["images/s"], 0.0))
    if not drawn:
        return text
    note = f"Sampling 24 layers of 768 with guidance: {about['device']}"
    path = lines(drawn, out / "gpu.png", x="batch", y="images/s", note=note)
    return "\n".join([text, "", *map(str, (out / "gpu.json", out / "gpu.md", path))])

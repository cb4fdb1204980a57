"""The commands that measure: evaluate, tune, compare, benchmark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgit.cli.derived import spread
from maskgit.cli.judging import judge_path
from maskgit.cli.options import (
    BatchSize,
    Computing,
    Features,
    Judge,
    Precision,
    RunArgument,
    Sampling,
    app,
    check_out,
    given,
    numbers,
    print_once,
    run_at_hand,
)

if TYPE_CHECKING:
    from maskgit.evaluation.report import Results
    from maskgit.evaluation.request import Evaluation


@app.command(cls=Computing)
@spread
def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="The run folder of a trained generator or tokenizer, or hub:USER/NAME.",
            callback=run_at_hand,
        ),
    ] = None,
    *,
    samples: Annotated[
        Path | None, typer.Option(help="Instead of a run: a folder of images or an ADM .npz.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="A config with a data section, a folder or .npz; by default the run's own data."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="The split that is the reference: train or validation.")
    ] = "train",
    count: Annotated[
        int | None, typer.Option(help="Samples to draw, 10,000 by default.", min=1)
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Such as fid,kid,bits; all that apply by default.")
    ] = "",
    features: Features = None,
    weights: Annotated[
        Path | None, typer.Option(help="Its weights: a classifier's run, or Inception's file.")
    ] = None,
    judge: Judge = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first sample, 0 by default.")
    ] = None,
    sampling: Sampling,
    precision: Precision = "fp32",
    batch_size: BatchSize | None = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; RUN/evaluation by default.")
    ] = None,
) -> None:
    """FID, KID, IS, precision, recall, density, coverage, class agreement, rFID, bits per code;
    with intervals.

    Of a tokenizer's run: rFID, PSNR, SSIM, LPIPS, and the use of its codes, on held-out images.

    Example: maskgit evaluate runs/mnist/maskgit --count 1000
    """
    from maskgit.evaluation.report import write_report
    from maskgit.evaluation.request import Evaluation
    from maskgit.processes import held

    check_out(out)
    judge = judge_path(run, judge)
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    asked = Evaluation(
        run=run, samples=samples, reference=reference, split=split, count=count, seed=seed,
        metrics=names, features=features, weights=weights, judge=judge, precision=precision,
        batch_size=batch_size, options=sampling.options(),
    )  # fmt: skip
    folder = out or _results_folder(run)
    with held(folder, "evaluate"):
        if (results := _measured(asked)) is not None:
            print(write_report(results, folder))


def _measured(asked: Evaluation) -> Results | None:
    """By what the run is; none on other processes."""
    from maskgit.evaluation.generator import evaluate as evaluate_generator
    from maskgit.evaluation.request import is_tokenizer, tokenizer_request
    from maskgit.evaluation.tokenizer import evaluate_tokenizer

    if asked.run is not None and is_tokenizer(asked.run):
        return evaluate_tokenizer(tokenizer_request(asked))
    return evaluate_generator(asked)


def _results_folder(run: Path | None) -> Path:
    """Where results go, if nobody says: beside a run's weights, else the working folder."""
    from maskgit.pipeline import results_beside

    return Path() / "evaluation" if run is None else results_beside(run) / "evaluation"


@app.command(cls=Computing)
def tune(
    run: RunArgument,
    sampler: Annotated[
        str, typer.Option(help="The samplers to tune, such as confidence,halton.")
    ] = "confidence",
    rounds: Annotated[
        str, typer.Option(help="Numbers of rounds; each gets its own preset.")
    ] = "4,8,12,32",
    metric: Annotated[
        str, typer.Option(help="What to make best: a number of `maskgit evaluate`.")
    ] = "fid",
    trials: Annotated[int, typer.Option(help="Settings to try for each preset.", min=1)] = 20,
    minutes: Annotated[
        float | None,
        typer.Option(help="No new trial for a preset after so long, each time it is run.", min=0),
    ] = None,
    count: Annotated[int, typer.Option(help="Samples of a trial.", min=10)] = 1000,
    features: Features = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights.")] = None,
    precision: Precision = "auto",
    batch_size: BatchSize | None = None,
) -> None:
    """Search a sampler's settings (Optuna); the best are kept as presets.

    Run again, it continues.

    Example: maskgit tune runs/mnist/maskgit --sampler halton --rounds 8,12
    """
    from maskgit.evaluation.tuning import Search, run_tuning
    from maskgit.pipeline import check_own

    check_own(run)
    search = Search(run, metric, trials, minutes, count, features, weights, precision, batch_size)
    for path in run_tuning(
        search, [name.strip() for name in sampler.split(",")], numbers(rounds, int)
    ):
        print(path)


@app.command(cls=Computing)
def compare(
    run: RunArgument,
    samplers: Annotated[
        str, typer.Option(help="Such as confidence,halton; all that it allows by default.")
    ] = "",
    rounds: Annotated[str, typer.Option(help="Numbers of rounds.")] = "4,8,12,16,32,64",
    refresh: Annotated[
        str,
        typer.Option(
            help="Such as 1,2,4: whole passes in every n-th round only, where a sampler can."
        ),
    ] = "1",
    count: Annotated[int, typer.Option(help="Samples for each place of the table.", min=10)] = 5000,
    longest: Annotated[
        float, typer.Option(help="Fewer samples where they would take more seconds than this.")
    ] = 600,
    features: Features = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights.")] = None,
    judge: Judge = None,
    precision: Precision = "auto",
    batch_size: BatchSize | None = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; RUN/samplers by default.")
    ] = None,
) -> None:
    """Samplers side by side on one model: quality and speed at several numbers of rounds, with
    presets where there are.

    Run again, it continues.

    Example: maskgit compare runs/mnist/maskgit --samplers halton --rounds 4,8
    """
    from maskgit.evaluation.comparison import run_comparison
    from maskgit.evaluation.places import Comparison
    from maskgit.pipeline import results_beside

    check_out(out)
    if out is None:
        out = results_beside(run) / "samplers"
    judge = judge_path(run, judge)
    names = [name.strip() for name in samplers.split(",") if name.strip()]
    asked = Comparison(
        run, names, numbers(rounds, int), count, longest, features, weights, judge, precision, out
    )
    asked = replace(asked, refresh=numbers(refresh, int, least=1), batch_size=batch_size)
    print_once(run_comparison(asked))


@dataclass(frozen=True)
class Timing:
    """The options of `benchmark speed`: what is timed, and for how long."""

    cells: Annotated[
        str | None, typer.Option(help="Grid sizes in cells, 64,256,1024 by default.")
    ] = None
    params: Annotated[
        str | None, typer.Option(help="Model sizes in million parameters, 5,25 by default.")
    ] = None
    batch: Annotated[str | None, typer.Option(help="Batch sizes, 1,8,32 by default.")] = None
    rounds: Annotated[str | None, typer.Option(help="Sampler rounds, 8,12,18 by default.")] = None
    seconds: Annotated[
        float | None, typer.Option(help="Turns go on for so long at each shape, 8 by default.")
    ] = None
    longest: Annotated[
        float | None,
        typer.Option(help="A part ends after so many seconds, 240 by default; of gpu, all."),
    ] = None
    quick: Annotated[
        bool, typer.Option(help="Fewer sizes by default: the whole picture in five minutes.")
    ] = False

    def gpu(self, _: list[str], out: Path) -> str:
        """One accelerator -> tables."""
        from maskgit.benchmark.gpu import run_gpu

        return run_gpu(out, longest=self.longest)

    def run(self, parts: list[str], out: Path) -> str:
        """Time the parts -> tables."""
        from maskgit.benchmark.plan import Plan
        from maskgit.benchmark.speed import QUICK, run_benchmark

        sizes = given(cells=self.cells, params=self.params, batch=self.batch, rounds=self.rounds)
        chosen: dict[str, Any] = {
            key: tuple(numbers(str(text), int)) for key, text in sizes.items()
        }
        chosen |= given(seconds=self.seconds, longest=self.longest)
        return run_benchmark(parts, replace(QUICK if self.quick else Plan(), **chosen), out)


@dataclass(frozen=True)
class Trainings:
    """The options of the benchmarks that train: for how long, and how often."""

    minutes: Annotated[
        str | None,
        typer.Option(
            help="Of training. quality: tokenizer, generator, 5,10 by default; others: 3."
        ),
    ] = None
    count: Annotated[
        int | None,
        typer.Option(
            help="Images: quality 10,000, settings 2,000, tokenizers all held-out ones.", min=10
        ),
    ] = None
    seeds: Annotated[int, typer.Option(help="settings and tokenizers: how many.", min=1)] = 2
    data: Annotated[str, typer.Option(help="tokenizers: fashion_mnist, mnist or openmoji.")] = (
        "fashion_mnist"
    )
    weights: Annotated[Path | None, typer.Option(help="tokenizers: of the feature network.")] = None

    def quality(self, _: list[str], out: Path) -> str:
        """Ours and the plain pipeline."""
        from maskgit.benchmark.quality import run_quality

        minutes = numbers(self.minutes or "5,10", float, 2)
        return run_quality(minutes, self.count or 10_000, out)

    def settings(self, _: list[str], out: Path) -> str:
        """Each setting of the wrapper."""
        from maskgit.benchmark.settings import run_settings

        minutes = numbers(self.minutes or "3", float, 1)[0]
        return run_settings(minutes, self.seeds, self.count or 2000, out)

    def tokenizers(self, lines: list[str], out: Path) -> str:
        """Each quantizer and loss."""
        from maskgit.benchmark.tokenizers import run_tokenizers

        minutes = numbers(self.minutes or "3", float, 1)[0]
        return run_tokenizers(self.data, minutes, self.seeds, self.count, out, self.weights, lines)


@app.command(cls=Computing)
@spread
def benchmark(
    what: Annotated[
        str,
        typer.Argument(
            help="speed; gpu: one accelerator; quality: ours and the plain pipeline; settings; "
            "tokenizers."
        ),
    ] = "speed",
    *,
    only: Annotated[
        str,
        typer.Option(help="Parts of speed, as training,sampling, or lines of tokenizers; or all."),
    ] = "",
    timing: Timing,
    trainings: Trainings,
    out: Annotated[Path, typer.Option(help="Folder of tables, JSON and pictures.")] = Path(
        "runs/benchmark"
    ),
) -> None:
    """Time us against the peers, or measure what is drawn after the same time of training.

    gpu: training, sampling, tokenizing and peers on one accelerator, in six minutes.
    quality: by our pipeline and by the plain one, on Fashion-MNIST. settings: by each setting of
    the wrapper. tokenizers: by each quantizer, with and without a perceptual loss and a
    discriminator. These three continue when run again.

    Example: maskgit benchmark speed --quick
    """
    from maskgit.processes import held
    from vqgan.registry import choose

    check_out(out)
    runs = {
        "speed": timing.run,
        "gpu": timing.gpu,
        "quality": trainings.quality,
        "settings": trainings.settings,
        "tokenizers": trainings.tokenizers,
    }
    run = choose(runs, what, "benchmark")
    with held(out, "benchmark"):
        print(run([name.strip() for name in only.split(",") if name.strip()], out))

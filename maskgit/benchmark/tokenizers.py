"""What quantizers and losses of a tokenizer are worth, each trained for the same time.

out/tokenizers/DATA/<line>-<seed>/ (runs)  tokenizers.json  .md  .png (a row for each line)

The last line is what a user would write today from the same packages (maskgit/benchmark/plain.py).
Run again, it continues.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from maskgit.benchmark.fair import seconds_a_step, turn, write_table
from maskgit.benchmark.plain import PlainVQVAE, train_for
from maskgit.benchmark.timing import Work
from maskgit.config.loading import load
from maskgit.config.sections import TokenizerConfig
from maskgit.data.datasets import image_datasets
from maskgit.data.order import StepOrder, batches, spread
from maskgit.data.pixels import save_png, to_float
from maskgit.evaluation.features import FeatureNetwork, load_features
from maskgit.evaluation.image_sets import ImageSet, from_source
from maskgit.evaluation.tables import kept
from maskgit.evaluation.tokenizer import measure_tokenizer
from maskgit.pictures import image_grid
from maskgit.precision import best_precision
from maskgit.processes import this_process
from maskgit.training.trainer import train
from vqgan.files import replacing
from vqgan.registry import choose
from vqgan.tokenizers import load_tokenizer

COLUMNS = {
    "rfid": "rFID",
    "rfid_witness": "rFID, witness",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "codes_used": "codes used",
    "perplexity": "perplexity",
}
MEASURED = ["psnr", "ssim", "rfid", "codes"]
PLAIN = "plain"

SMALL_PATCHES = "{name: patchgan, width: 32, num_layers: 1}"
"""A judge of 16 x 16 pixels, for images of 28 and 32."""


class Data(NamedTuple):
    """A data set of the table."""

    overrides: tuple[str, ...]  # of fashion_mnist/vqgan
    features: str  # the network of rFID
    perceptual: str  # the perceptual loss
    perceptual_weight: float
    classifier: str | None  # the config of the perceptual loss's, if it has one


WIDE = ("model.widths=[48,96]",)  # of the published tables
CLASSIFIER = '{{name: classifier, weights: "{weights}"}}'
DATA = {
    "fashion_mnist": Data(WIDE, "classifier", CLASSIFIER, 4.0, "fashion_mnist/perceptual"),
    "mnist": Data(
        ("data.source=mnist5k", *WIDE), "classifier", CLASSIFIER, 4.0, "mnist/classifier"
    ),
    "openmoji": Data(
        (
            "data.source={name: openmoji, size: 32}",
            "data.image_size=32",
            "data.channels=3",
            "data.flip=true",
            "model.widths=[32,64]",
        ),
        "mobilenet",
        '{{name: torchvision, model: mobilenet_v2, weights: "{weights}", layers: [1, 3, 6]}}',
        0.1,
        None,
    ),
}
QUANTIZERS = {
    "vq": "{name: vq, codebook_size: 512}",
    "fsq": "{name: fsq, levels: [8, 8, 8]}",
    "lfq": "{name: lfq, codebook_size: 512}",
    "bsq": "{name: bsq, codebook_size: 512}",
    "sim_vq": "{name: sim_vq, codebook_size: 512}",
    "rvq": "{name: rvq, codebook_size: 32, codes_per_cell: 2}",
}
"""Of 9 bits a cell, but rvq's two codes of 5."""
BASE = "fsq"
"""The quantizer that the losses are compared with."""
NO_LOSSES = ("loss.perceptual=null", "loss.adversarial=null")
LOSSES = {
    "perceptual": ("perceptual",),
    "GAN": ("adversarial",),
    "perceptual + GAN": ("perceptual", "adversarial"),
}
BOTH = "perceptual + GAN"
"""What the other quantizers are trained with, too."""
GAN_WEIGHT = 0.1
"""Of the adversarial gradient over the others' (0.8 in VQGAN, trained a thousand times as long)."""
JOINS = 0.5
"""The share of the steps after which the discriminator joins."""


class Place(NamedTuple):
    """Where everything lies; `common` are overrides of all configs, for tests to be small."""

    data: str
    out: Path
    perceptual: Path  # the weights of the perceptual loss
    common: tuple[str, ...] = ()

    def config(self, line: str, seed: int = 0, joins: int = 0, *extra: str) -> TokenizerConfig:
        """The config of a line."""
        quantizer, *losses = line.split(" + ", 1)
        parts = LOSSES[losses[0]] if losses else ()
        entry = DATA[self.data]
        given = [
            *entry.overrides,
            *self.common,
            *NO_LOSSES,
            f"model.quantizer={QUANTIZERS[quantizer]}",
            f"seed={seed}",
        ]
        if "perceptual" in parts:
            given.append(f"loss.perceptual={entry.perceptual.format(weights=self.perceptual)}")
            given.append(f"loss.perceptual_weight={entry.perceptual_weight}")
        if "adversarial" in parts:
            given.append(f"loss.adversarial={_adversarial(joins)}")
        found = load("fashion_mnist/vqgan", [*given, f"run={self.run(line, seed)}", *extra])
        assert isinstance(found, TokenizerConfig)
        return found

    def run(self, line: str, seed: int) -> Path:
        """The folder of a line and a seed."""
        return self.out / f"{line.replace(' + ', '-')}-{seed}"


def _adversarial(joins: int) -> str:
    """A discriminator that joins at a step."""
    about = (
        f"start_step: {joins}, warmup_steps: {joins // 10}, learning_rate: 2e-4, weight: "
        f"{GAN_WEIGHT}"
    )
    return f"{{discriminator: {SMALL_PATCHES}, {about}}}"


def lines_of() -> list[str]:
    """The lines of the table but the plain one."""
    return [
        *QUANTIZERS,
        *(f"{BASE} + {name}" for name in LOSSES),
        *(f"{q} + {BOTH}" for q in QUANTIZERS if q != BASE),
    ]


def run_tokenizers(
    data: str,
    minutes: float,
    seeds: int,
    count: int | None,
    out: Path,
    weights: Path | None,
    lines: list[str],
) -> str:
    """Train and measure `lines` (all by default, PLAIN among them) for `minutes` each -> a table.

    weights: of the feature network: by default a classifier that is trained first (grey data), or
    torchvision's MobileNet (colour). The perceptual loss has another classifier, of another seed,
    so that no line is trained on what it is measured with; in colour there is but one network. Grey
    data are measured by a witness, too.
    """
    choose(DATA, data, "data set of the tokenizer benchmark")
    for line in lines:
        choose(dict.fromkeys([*lines_of(), PLAIN]), line, "line of the tokenizer benchmark")
    folder = out / "tokenizers" / data
    if classifier := DATA[data].classifier:
        perceptual = folder / "perceptual"
        train(load(classifier, [f"run={perceptual}", "seed=1"]))
        if weights is None:
            weights = folder / "classifier"
            train(load(f"{data}/classifier", [f"run={weights}"]))
    else:
        perceptual = (
            weights or Path(torch.hub.get_dir()) / "checkpoints" / "mobilenet_v2-b0353104.pth"
        )
    networks = {"": load_features(DATA[data].features, weights)}
    if classifier:
        train(load(f"{data}/witness", [f"run={folder / 'witness'}"]))
        networks["_witness"] = load_features("witness", folder / "witness")
    return compare(Place(data, folder, perceptual), networks, 60 * minutes, seeds, count, lines)


def compare(
    place: Place,
    networks: Mapping[str, FeatureNetwork],
    seconds: float,
    seeds: int,
    count: int | None,
    lines: list[str],
) -> str:
    """The lines, with feature networks that are there already, by what is put behind "rfid"."""
    steps = _steps(place, seconds)
    images = from_source(place.config(BASE).data, "validation", count)
    there = [line for line in steps if (place.run(line, 0) / "numbers.json").is_file()]
    found: dict[str, list[dict[str, Any]]] = {}
    firsts: dict[str, Any] = {}  # tokenizers of seed 0
    for seed in range(seeds):
        for line in [line for line in steps if not lines or line in (*lines, *there)]:
            tokenizer = _trained(place, line, seed, steps[line])
            firsts.setdefault(line, tokenizer)
            numbers = _measured(place, line, seed, steps[line], tokenizer, images, networks)
            found.setdefault(line, []).append(numbers | {"steps": steps[line]})
            about = {
                "reference": images.about,
                "count": images.num_images,
                "features": [network.about for network in networks.values()],
            }
            table = write_table(found, COLUMNS, place.out, "tokenizers", about)
    path = _draw(firsts, images, place.out / "tokenizers.png")
    return "\n".join(
        [table, "", *(str(place.out / f"tokenizers.{end}") for end in ("json", "md")), str(path)]
    )


def _steps(place: Place, seconds: float) -> dict[str, int]:
    """How many steps of each line fit; a discriminator counts for its share of the steps.

    A loss costs the same with any quantizer, so it is timed with BASE alone. A line that was
    trained with nearly so many steps (a table of an earlier version) keeps its own number.
    """
    timed = [*QUANTIZERS, *(f"{BASE} + {name}" for name in LOSSES)]

    def works() -> Mapping[str, Work]:
        return {line: turn(place.config(line), place.out / "timed") for line in timed} | {
            PLAIN: _plain_turn(place)
        }

    times = seconds_a_step(works, place.out / "seconds.json", seconds)

    def seconds_of(line: str) -> float:
        quantizer, *losses = line.split(" + ", 1)
        return times[quantizer] + (times[f"{BASE} + {losses[0]}"] - times[BASE] if losses else 0.0)

    steps = {}
    for line in lines_of():
        alone = seconds_of(line.removesuffix(" + GAN"))
        fit = max(1, int(seconds / (JOINS * alone + (1 - JOINS) * seconds_of(line))))
        known = _steps_of(place.run(line, 0))
        steps[line] = known if known is not None and abs(known - fit) < 0.05 * fit else fit
    return steps | {PLAIN: max(1, int(seconds / times[PLAIN]))}


def _steps_of(run: Path) -> int | None:
    """How many steps a run was trained for, if it is there."""
    path = run / "config.yaml"
    return load(str(path)).train.steps if path.is_file() else None


def _trained(place: Place, line: str, seed: int, steps: int) -> Any:
    """The tokenizer of a line, trained unless it is there."""
    if line == PLAIN:
        return _plain_trained(place, seed, steps)
    known = _steps_of(place.run(line, seed))
    if known not in (None, steps):
        raise ValueError(
            f"{place.run(line, seed)} was trained for {known} steps, not {steps}: set --out to "
            "train anew"
        )
    every = [f"train.{key}={steps}" for key in ("steps", "eval_every", "preview_every")]
    save = f"train.save_every={max(1, steps // 3)}"
    weights = train(place.config(line, seed, int(JOINS * steps), *every, save, "train.trackers=[]"))
    return load_tokenizer(weights).to(this_process().device)


def _plain_inputs(place: Place, seed: int = 0) -> tuple[PlainVQVAE, Any]:
    """An untrained plain tokenizer of the right size; endless batches of 64 images in [-1, 1]."""
    torch.manual_seed(seed)
    dataset, _ = image_datasets(place.config(BASE, seed).data, place.out / "plain", seed)
    order = StepOrder(len(dataset), min(64, len(dataset)), seed=seed, start=0, stop=10**6)
    device = this_process().device
    module = PlainVQVAE(place.config(BASE).data.channels).to(device)
    return module, (batch.images(device) for batch in batches(dataset, order))


def _plain_turn(place: Place) -> Work:
    (module, images), bf16 = _plain_inputs(place), best_precision() == "bf16"
    options: dict[str, Any] = {"in_steps": True, "bf16": bf16}
    return lambda: train_for(5, module, lambda: module.loss(next(images)), 1e-3, "plain", **options)


def _plain_trained(place: Place, seed: int, steps: int) -> PlainVQVAE:
    from safetensors.torch import load_file, save_file

    path = place.run(PLAIN, seed) / f"plain-{steps}.safetensors"
    module, images = _plain_inputs(place, seed)
    if not path.is_file():
        train_for(steps, module, lambda: module.loss(next(images)), 1e-3, "plain", in_steps=True)
        with replacing(path) as aside:
            save_file(module.state_dict(), aside)
    module.load_state_dict(load_file(path))
    module.eval()
    return module


def _measured(
    place: Place,
    line: str,
    seed: int,
    steps: int,
    tokenizer: Any,
    images: ImageSet,
    networks: Mapping[str, FeatureNetwork],
) -> dict[str, Any]:
    """The numbers of `maskgit evaluate`, kept for equal steps, images and networks."""

    def measure() -> dict[str, Any]:
        print(f"== measure {line}, seed {seed}", file=sys.stderr, flush=True)
        numbers: dict[str, Any] = {}
        for kind, network in networks.items():
            wanted = ["rfid"] if kind else MEASURED
            found, _ = measure_tokenizer(tokenizer, images, network, wanted, 100, intervals=False)
            numbers |= {f"{key}{kind}": number._asdict() for key, number in found.items()}
        return numbers

    features = [network.about for network in networks.values()]
    made_of = {"steps": steps, "count": images.num_images, "features": features}
    return kept(place.run(line, seed) / "numbers.json", made_of, measure)


@torch.no_grad()
def _draw(tokenizers: Mapping[str, Any], images: ImageSet, path: Path, columns: int = 12) -> Path:
    """Held-out images, and below them what each line makes of them."""
    numbers = spread(images.num_images, columns)
    originals = to_float(torch.cat(list(images.read([range(i, i + 1) for i in numbers]))))
    seen = originals.to(this_process().device)
    rows = [
        originals,
        *(tokenizer.decode(tokenizer.encode(seen)).cpu() for tokenizer in tokenizers.values()),
    ]
    return save_png(
        image_grid(torch.cat(rows), num_columns=columns, row_names=["originals", *tokenizers]), path
    )

"""Data sets of the library `datasets`: from the Hugging Face hub, or files of many kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Gt, Lt
from PIL import Image

from maskgit.data.pixels import open_image
from maskgit.data.sources.pages import UnknownLayoutError
from maskgit.data.sources.parquet import Table, local_files
from maskgit.data.sources.source import Source, check_labels, natural
from maskgit.machine import warn_once
from vqgan.registry import choose

LABEL = "label"


def huggingface(
    split: str,
    *,
    path: str,
    config_name: str | None = None,
    image_column: str = "image",
    label_column: str | None = None,
    splits: Mapping[str, str] | None = None,
    data_files: Any = None,
    data_dir: str | None = None,
    validation_share: Annotated[float, Gt(0), Lt(1)] = 0.05,
) -> Source:
    """Any map-style `datasets` data set: a hub name, the path, glob or folder of .parquet files, or
    `parquet` / `imagefolder` with data_files or data_dir.

    Parquet files here are read where they lie. The label_column of a path or a folder of them is
    `label` by default, where they have one. splits: our split -> theirs. Where there is no
    validation split, every n-th row of train validates instead. Bytes are decoded here, one image
    at a time, so that a corrupt one harms nothing else.
    """
    local = None if data_dir or config_name else local_files(path, data_files)
    options = path, image_column, label_column, splits, validation_share
    labelled = data_files is None and local is not None
    if local is None:
        data = _loaded(path, config_name, data_files=data_files, data_dir=data_dir)
        return _source(data, split, *options, labelled)
    try:
        return _source(_opened(local, path), split, *options, labelled)
    except UnknownLayoutError:  # which the library reads, and copies
        files = {name: list(map(str, found)) for name, found in local.items()}
        return _source(_loaded("parquet", data_files=files), split, *options, labelled)


def _source(
    data: Mapping[str, Any],
    split: str,
    path: str,
    image_column: str,
    label_column: str | None,
    splits: Mapping[str, str] | None,
    validation_share: float,
    labelled: bool,
) -> Source:
    """Of the splits as they are there; labelled: whether a column `label` is one unasked."""
    names = dict(splits or {"train": "train", "validation": "validation"})
    training = choose(data, names.get("train", "train"), f"split of {path!r}")
    if split == "train" or names.get("validation") not in data:
        rows, every = training, max(2, round(1 / validation_share))
        if names.get("validation") not in data:
            rows = rows.select(
                [i for i in range(len(rows)) if (i % every == every - 1) == (split == "validation")]
            )
    else:
        rows = data[names["validation"]]
    for column in filter(None, (image_column, label_column)):
        if column not in rows.column_names:
            raise ValueError(
                f"data set {path!r} has no column {column!r}; it has {', '.join(rows.column_names)}"
            )
    if labelled and label_column is None and LABEL in rows.column_names:
        label_column = LABEL
    labels, class_names = _labels_of(rows, training, label_column, repr(path))
    pictures = (
        rows.pictures(image_column, f"{path}/{split}")
        if isinstance(rows, Table)
        else Records(undecoded(rows, image_column), image_column, f"{path}/{split}")
    )
    return Source(pictures.image, labels, class_names, pictures.name)


def _opened(files: Mapping[str, list[Path]], path: str) -> dict[str, Table]:
    """FileNotFoundError, in a line, if they cannot be read."""
    try:
        return {split: Table(paths) for split, paths in files.items()}
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"cannot load data set {path!r}: {_line_of(error)}") from error


def undecoded(rows: Any, column: str) -> Any:
    """Rows of the library's, whose images are bytes."""
    import datasets

    return rows.cast_column(column, datasets.Image(decode=False))


def _loaded(path: str, *names: str | None, **files: Any) -> Any:
    """What the library loads; once more elsewhere where its cache may be damaged or unwritable.

    FileNotFoundError, in a line, if that fails, too.
    """
    import datasets

    load = partial(datasets.load_dataset, path, *names, **files)
    try:
        return load()
    except (OSError, ValueError, _build_error()) as error:
        reason, failed = _line_of(error), error
    try:
        if isinstance(failed, OSError) and failed.errno is None:
            raise failed  # the hub's own: nothing is there, or nobody answers
        found = load(cache_dir=_elsewhere().name)
    except (OSError, ValueError, _build_error()) as error:
        raise FileNotFoundError(f"cannot load data set {path!r}: {reason}") from error
    warn_once(
        f"the cache of data set {path!r} is not used ({reason}): set HF_HOME to a folder that can "
        "be written to, or remove what is damaged there"
    )
    return found


def _line_of(error: BaseException) -> str:
    return str(error.__cause__ or error).splitlines()[0]


def _build_error() -> type[Exception]:
    from datasets.exceptions import DatasetsError

    return DatasetsError


@cache
def _elsewhere() -> TemporaryDirectory[str]:
    """A cache that lasts as long as this process."""
    return TemporaryDirectory(prefix="maskgit-datasets-", ignore_cleanup_errors=True)


class Records(NamedTuple):
    """Rows of a `datasets` data set, of which one column holds undecoded images."""

    rows: Any
    column: str
    title: str

    def image(self, index: int) -> Image.Image:
        """A decoded image; ValueError if its row has none."""
        record = self.rows[index][self.column] or {}
        data = record.get("bytes") or record.get("path")
        if data is None:
            raise ValueError("there is no image in this row")
        return open_image(data)

    def name(self, index: int) -> str:
        """Its row."""
        return f"{self.title}[{index}]"


def _labels_of(
    rows: Any, training: Any, column: str | None, title: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Integer labels and their names, of all training rows; one class without a label column."""
    if column is None:
        return np.zeros(len(rows), dtype=np.int64), ("image",)
    for part in (training, rows):
        _check_values(part[column], f"column {column!r} of {title}")
    known = getattr(training.features[column], "names", None)
    if known:
        labels = np.asarray(rows[column], dtype=np.int64)
        check_labels(labels, len(known), f"column {column!r} of {title}")
        return labels, tuple(known)
    names = sorted(set(training[column]), key=lambda value: natural(str(value)))
    index = {name: i for i, name in enumerate(names)}
    unknown = set(rows[column]) - set(names)
    if unknown:
        raise ValueError(
            f"column {column!r} has labels that the training split has not: "
            f"{sorted(map(str, unknown))[:5]}"
        )
    return np.array([index[value] for value in rows[column]], dtype=np.int64), tuple(
        map(str, names)
    )


def _check_values(values: Sequence[Any], title: str) -> None:
    """ValueError, with their count, if rows have no label that names a class: none, -1, lists."""
    wrong = [value for value in values if not isinstance(value, int | str) or value in (-1, "")]
    if wrong:
        raise ValueError(
            f"{title}: {len(wrong)} of {len(values)} rows have no label ({wrong[0]!r}, for one): "
            "leave these rows out, or set no label_column"
        )
    if len({isinstance(value, str) for value in values}) > 1:
        raise ValueError(f"{title} holds both texts and numbers: write all labels one way")

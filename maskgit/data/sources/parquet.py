"""Local parquet files, whose images are read where they lie: no copy is made of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from maskgit.data.pixels import open_image
from maskgit.data.sources.names import Names
from maskgit.data.sources.pages import Pages, scan
from maskgit.data.sources.source import natural

PARQUET = ".parquet"
SPLIT = re.compile(r"(train|validation|valid|val|dev|test)(ing)?(?![a-z])")
THE_SAME = {"valid": "validation", "val": "validation", "dev": "validation"}


def local_files(path: str, data_files: Any) -> dict[str, list[Path]] | None:
    """The files by split of a .parquet path or glob, of a folder of such files, as a snapshot of
    the hub is, or of `parquet` with data_files; none if it is something else.

    FileNotFoundError if a path or pattern finds no file.
    """
    if path.endswith(PARQUET) and data_files is None:
        return {"train": _found(path)}
    if path == "parquet" and data_files:
        by_split = data_files if isinstance(data_files, Mapping) else {"train": data_files}
        patterns = {
            split: [some] if isinstance(some, str) else list(some)
            for split, some in by_split.items()
        }
        if any("://" in pattern for pattern in chain.from_iterable(patterns.values())):
            return None
        return {
            split: list(chain.from_iterable(map(_found, some))) for split, some in patterns.items()
        }
    if data_files is None and Path(path).expanduser().is_dir():
        return _of_folder(Path(path).expanduser()) or None
    return None


def _found(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    found = sorted(
        map(str, Path(path.anchor).glob(str(path.relative_to(path.anchor)))), key=natural
    )
    if not found:
        raise FileNotFoundError(
            f"no file {pattern}: data.source is a source's name or such a file, or set "
            "data_files to the paths of .parquet files"
        )
    return list(map(Path, found))


def _of_folder(root: Path) -> dict[str, list[Path]]:
    """By how their names begin, train-00000-of-00294.parquet."""
    found = defaultdict(list)
    for folder in (root, root / "data"):
        for path in sorted(folder.glob(f"*{PARQUET}"), key=lambda path: natural(path.name)):
            split = SPLIT.match(path.name)
            name = split[1] if split else "train"
            found[THE_SAME.get(name, name)].append(path)
    return dict(found)


class Table:
    """The rows of some parquet files of one schema, or some of them, as far as `datasets` has the
    same.

    ValueError or OSError if they cannot be read.
    """

    def __init__(self, paths: Sequence[Path], chosen: np.ndarray | None = None) -> None:
        import datasets
        import pyarrow.parquet as pq

        self.paths, self.chosen = list(paths), chosen
        schema = pq.read_schema(self.paths[0])
        self.features = datasets.Features.from_arrow_schema(schema)
        self.column_names = schema.names
        counts = [pq.read_metadata(path).num_rows for path in self.paths]
        self.starts = np.array([0, *accumulate(counts)], np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.chosen is None else len(self.chosen)

    def __getitem__(self, column: str) -> list[Any]:
        import pyarrow.parquet as pq

        values = [pq.read_table(path, columns=[column])[column].to_pylist() for path in self.paths]
        every = list(chain.from_iterable(values))
        return every if self.chosen is None else [every[row] for row in self.chosen]

    def select(self, rows: Sequence[int]) -> Table:
        """Some of all."""
        return Table(self.paths, np.array(rows, np.int64))

    def pictures(self, column: str, title: str) -> Pictures:
        """Where the images of a column lie; UnknownLayoutError if they cannot be read there."""
        import datasets

        structured = not isinstance(self.features[column], datasets.Value)
        leaf = f"{column}.bytes" if structured else column
        pages = tuple(scan(path, leaf) for path in self.paths)
        return Pictures(Names(map(str, self.paths)), self.starts, pages, self.chosen, title)


class Pictures(NamedTuple):
    """Undecoded images in parquet files, as workers of any kind get them: no file is open."""

    paths: Names
    starts: np.ndarray  # (files + 1,) int64: the first row of each
    pages: tuple[Pages, ...]
    chosen: np.ndarray | None
    title: str

    def image(self, index: int) -> Image.Image:
        """A decoded image; ValueError if its row has none."""
        row = index if self.chosen is None else int(self.chosen[index])
        file = int(np.searchsorted(self.starts, row, "right")) - 1
        data = self.pages[file].value(self.paths[file], row - int(self.starts[file]))
        if data is None:
            raise ValueError("there is no image in this row")
        return open_image(data)

    def name(self, index: int) -> str:
        """Its row."""
        return f"{self.title}[{index}]"

"""`maskgit inspect`: what a word of the command line names, inspected, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskgit.config.loading import known_configs, load
from maskgit.config.overrides import parse_choice
from maskgit.data.contact_sheet import contact_sheet
from maskgit.data.inspection import MOST, Inspection, inspect
from maskgit.data.inspection_report import inspection_report
from maskgit.data.pixels import save_png
from maskgit.data.sources import named
from vqgan.files import replacing


def source_of(word: str) -> Any:
    """A folder, a parquet file, the name or the mapping of a data source, or a config -> what a
    config's data.source would be."""
    if Path(word).expanduser().is_dir() and word not in known_configs():
        return {"name": "folder", "root": str(Path(word))}
    if word.endswith(".yaml") or word in known_configs():
        data = getattr(load(word), "data", None)
        if data is None:
            raise ValueError(f"{word} has no data section")
        return data.source
    if "/" in word and not word.startswith("{") and not Path(word).exists():
        raise FileNotFoundError(f"no folder {word}")
    return named(parse_choice(word, "data"))


def names_configs(word: str) -> bool:
    """Whether a word is a folder of configs, and not of images; one that is here comes first."""
    here = Path(word).expanduser()
    return (here / "vqgan.yaml").is_file() if here.is_dir() else f"{word}/vqgan" in known_configs()


def look(word: str, out: Path | None = None, most: int = MOST) -> tuple[Inspection, str]:
    """-> what was found and its report, which `out`, a .md file, gets with a picture beside it."""
    if out is not None and out.suffix.lower() != ".md":
        raise ValueError(f"{out}: the report is written to a .md file")
    spec = source_of(word)
    found = inspect(spec, word, most)
    if out is None:
        return found, inspection_report(found)
    picture = save_png(contact_sheet(spec, found), out.with_suffix(".png"))
    text = inspection_report(found, picture.name)
    with replacing(out) as aside:
        aside.write_text(text)
    return found, text

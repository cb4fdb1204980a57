"""An Inspection as Markdown: what to know first, then the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from maskgit.data.inspection import Inspection
from maskgit.data.sources.source import shown

SOME = 12
"""Rows of a table, and names of a list, before `...`."""
FEW_IMAGES = 50
"""Of a class, with which a generator learns it by heart."""


def inspection_report(found: Inspection, picture: str | None = None) -> str:
    """picture: the contact sheet's file name, relative to where this is written."""
    splits = ", ".join(f"{int(count.sum()):,} {split}" for split, count in found.counts.items())
    classes = len(found.class_names)
    lines = [
        f"# {found.title}",
        "",
        f"**{found.num_images:,} images of {classes} class{'es' * (classes != 1)}** ({splits}).",
    ]
    if found.opened < found.num_images:
        lines += [
            "",
            f"{found.opened:,} of them, spread evenly, were opened: sizes, formats, what cannot be "
            "read and near duplicates are of these.",
        ]
    lines += ["", "## What to know", "", *(f"- {line}" for line in advice(found))]
    if picture is not None:
        lines += ["", "## Some of each class", "", f"![Some images of each class]({picture})"]
    lines += ["", "## Classes", "", *_classes(found)]
    lines += ["", "## Sizes and formats", "", *_sizes(found)]
    lines += ["", "## What is not read", "", *_unread(found)]
    lines += ["", "## Near duplicates", "", *_duplicates(found)]
    return "\n".join(lines) + "\n"


def advice(found: Inspection) -> Iterator[str]:
    """What somebody who is about to train on this should know, each with what to do."""
    if found.unread:
        yield (
            f"{len(found.unread):,} image{'s' * (len(found.unread) != 1)} cannot be read "
            "(below): training leaves them out."
        )
    if (alpha := found.share("has_alpha")) > 0:
        yield (
            f"{alpha:.0%} have transparent pixels: `data.channels=4` learns the transparency, else "
            "they are laid on a background."
        )
    colour = found.share("is_colour")
    yield (
        f"{colour:.0%} are in colour: `data.channels=3`."
        if colour > 0.02
        else "All are grey: `data.channels=1`."
    )
    odd = sum(count for size, count in found.sizes.items() if max(size) > 1.2 * min(size))
    if found.seen and odd / len(found.seen) > 0.1:
        yield (
            f"{odd / len(found.seen):.0%} are far from square: a square is cut from the middle; "
            "`data.resize=contain` keeps all of each."
        )
    if found.is_pixel_art:
        yield "Few colours in small pictures: pixel art, which `data.resample=nearest` keeps sharp."
    small = [found.class_names[i] for i, n in enumerate(found.by_class) if 0 < n < FEW_IMAGES]
    if small and len(found.class_names) > 1:
        yield (
            f"{len(small)} class{'es have' if len(small) > 1 else ' has'} fewer than {FEW_IMAGES} "
            f"images ({_few(small)}): more of them, or join them to others."
        )
    if found.imbalance > 5:
        yield (
            f"The largest class has {found.imbalance:.0f} times the images of the smallest: "
            "`data.balance=sqrt` shows small ones more often."
        )
    if leaked := found.leaked:
        inside = sum(found.seen[i].split == "validation" for g in leaked for i in g)
        held = sum(one.split == "validation" for one in found.seen)
        yield (
            f"{inside / max(1, held):.0%} of the validation images have a near duplicate that is "
            "trained on, so that numbers on them flatter: `data.source.group` keeps images that "
            "belong together (frames of one animation) in one split; where folders are the splits, "
            "move them into one."
        )
    if found.mixed:
        yield f"{len(found.mixed)} groups of near duplicates lie in several classes (below)."


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:SOME])) + ", ..." * (len(names) > SOME)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [
        f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in r)} |" for r in rows
    ]


def _classes(found: Inspection) -> list[str]:
    largest = max(int(found.by_class.max()), 1)
    rows = [
        [
            shown(name),
            *(f"{int(count[label]):,}" for count in found.counts.values()),
            "█" * max(1, round(20 * found.by_class[label] / largest))
            if found.by_class[label]
            else "",
        ]
        for label, name in enumerate(found.class_names)
    ]
    return _table(["class", *found.counts, ""], rows)


def _sizes(found: Inspection) -> list[str]:
    total = max(1, len(found.seen))
    rows = [
        [f"{width} x {height}", f"{count:,}", f"{count / total:.0%}"]
        for (width, height), count in found.sizes.most_common(SOME)
    ]
    left = len(found.sizes) - len(rows)
    more = [["others", f"{left:,} sizes", ""]] if left > 0 else []
    formats = ", ".join(f"{count:,} {name}" for name, count in found.formats.most_common())
    return [*_table(["width x height", "images", "share"], rows + more), "", f"Formats: {formats}."]


def _unread(found: Inspection) -> list[str]:
    lines = [f"- {shown(name)}: {shown(reason)}" for name, reason in found.unread[:SOME]]
    if len(found.unread) > SOME:
        lines.append(f"- ... and {len(found.unread) - SOME:,} more")
    if str(found.skipped):
        lines.append(f"- No data, and left out: {found.skipped}")
    return lines or ["Everything was read."]


def _duplicates(found: Inspection) -> list[str]:
    if not found.groups:
        return ["None were found."]
    inside = sum(map(len, found.groups))
    largest = sorted(found.groups, key=len, reverse=True)
    lines = [
        f"{inside:,} images ({inside / max(1, len(found.seen)):.0%}) look like another one, in "
        f"{len(found.groups):,} groups; {len(found.leaked):,} groups lie in both splits, "
        f"{len(found.mixed):,} in several classes.",
        "",
    ]
    for title, groups in (("the largest", largest), ("of several classes", found.mixed)):
        for group in groups[:4]:
            names = [shown(str(Path(found.seen[i].name).name)) for i in group]
            some = ", ".join(f"`{name}`" for name in names[:4]) + ", ..." * (len(names) > 4)
            lines.append(f"- {title}: {len(group)} images: {some}")
    return lines

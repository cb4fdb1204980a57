"""index.html: all that came of it on one page, with relative links."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --ground: #fff; --quiet: #666; --line: #ddd }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e8; --ground: #161616; --quiet: #a0a0a0; --line: #3a3a3a }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground);
  max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line) }
figure { margin: 1rem 0 } figcaption, .quiet { color: var(--quiet) }
.verdict { border-left: 4px solid #3a7; padding-left: 1rem }
code { overflow-wrap: anywhere } li { margin: .3rem 0 } a { color: inherit }
"""


class Figure(NamedTuple):
    """A picture of the page, or a place where there is none yet."""

    title: str
    path: Path
    alt: str
    caption: str = ""


def page(
    title: str,
    folder: Path,
    lead: Sequence[str],
    figures: Sequence[Figure],
    lists: Mapping[str, Sequence[str]],
    links: Mapping[str, Path],
) -> str:
    """lead: paragraphs of the verdict; lists: heading -> lines. Pictures that are not there are
    left out; all paths are relative to `folder`, where the page lies."""
    parts = [f"<h1>{escape(title)}</h1>", '<div class="verdict">']
    parts += [f"<p>{marked(line)}</p>" for line in lead]
    parts += ["</div>"]
    for figure in figures:
        if figure.path.is_file():
            where = figure.path.relative_to(folder).as_posix()
            caption = f"<figcaption>{marked(figure.caption)}</figcaption>" if figure.caption else ""
            parts += [
                f"<h2>{escape(figure.title)}</h2>",
                f'<figure><a href="{escape(where)}"><img src="{escape(where)}" '
                f'alt="{escape(figure.alt)}" loading="lazy"></a>{caption}</figure>',
            ]
    for heading, lines in lists.items():
        items = "".join(f"<li>{marked(line)}</li>" for line in lines)
        parts += [f"<h2>{escape(heading)}</h2>", f"<ul>{items}</ul>"]
    found = [
        f'<li><a href="{escape(path.relative_to(folder).as_posix())}">{escape(name)}</a></li>'
        for name, path in links.items()
        if path.exists()
    ]
    parts += ["<h2>Files</h2>", f"<ul>{''.join(found)}</ul>"]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
    )
    return f"{head}<body>{chr(10).join(parts)}</body></html>\n"


def marked(text: str) -> str:
    """Escaped, with `code` in its element."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))

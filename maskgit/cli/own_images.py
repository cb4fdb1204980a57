"""The commands for one's own images: inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskgit.cli.options import Computing, app


@app.command(cls=Computing)
def inspect(
    data: Annotated[
        str,
        typer.Argument(help="A folder of images, a parquet file, a data source, or a config."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="A .md file for the report; a contact sheet is drawn beside it."),
    ] = None,
    most: Annotated[int, typer.Option(help="Images that are opened, at most.", min=2)] = 20_000,
) -> None:
    """What is in a folder of images: classes, splits, sizes, what cannot be read, near duplicates,
    and what to do about it.

    Example: maskgit inspect my/folder --out data.md
    """
    from maskgit.cli.own.looking import look

    print(look(data, out, most)[1], end="")

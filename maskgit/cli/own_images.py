"""The commands for one's own images: inspect, quickstart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskgit.cli.options import Computing, app, given


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


@app.command(cls=Computing)
def quickstart(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="A folder of images; or configs by name: vqgan, maskgit and classifier in one.",
        ),
    ] = "mnist",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Of configs, each for one stage: vqgan.train.steps=10 maskgit.model.dim=64."
        ),
    ] = None,
    *,
    minutes: Annotated[
        float | None, typer.Option(help="For all of it; 25 by default.", min=0.1)
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Of the images, in pixels; else as they are.", min=16)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the folder in runs; else the images' folder's.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Delete what is there first.")] = False,
) -> None:
    """One's own pictures in one command: look, choose settings, train by time, and end with
    pictures, a verdict and a page.

    Run again, it continues. With a folder of configs (mnist), their whole life.

    Example: maskgit quickstart my/folder --minutes 25
    """
    from maskgit.cli.own.looking import names_configs

    if names_configs(what):
        if given(minutes=minutes, size=size, name=name):
            raise ValueError(f"{what} are configs: --minutes, --size and --name are for images")
        from maskgit.cli.quickstart import run_quickstart

        print(run_quickstart(what, overrides or [], fresh=fresh))
        return
    if overrides:
        raise ValueError(
            f"{overrides[0]}: of images, the settings are in runs/NAME/*.yaml, to be edited there"
        )
    from maskgit.cli.own.life import quickstart as whole

    print(whole(what, minutes or 25.0, size, name, fresh=fresh))

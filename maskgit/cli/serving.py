"""The command that opens a page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskgit.cli.options import Computing, DrawingPrecision, app, run_at_hand


@app.command(cls=Computing)
def serve(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The run folder of a trained generator, or hub:USER/NAME."
        ),
    ],
    *,
    port: Annotated[
        int, typer.Option(help="On 127.0.0.1; 0 for any that is free.", min=0, max=65535)
    ] = 7860,
    images: Annotated[int, typer.Option(help="Of one request, at most.", min=1)] = 64,
    precision: DrawingPrecision = None,
) -> None:
    """A page in the browser: draw by class and watch the grid fill, compare two settings, brush
    over pictures. It answers this machine alone, and stops with Ctrl-C.

    Example: maskgit serve runs/mnist/maskgit
    """
    from maskgit.pipeline import load_pipeline
    from maskgit.processes import this_process
    from maskgit.serving import Limits, Studio, check_gradio, serve

    check_gradio()
    if not this_process().is_main_process:  # one page is enough
        return
    place = run_at_hand(Path(run)) or Path(run)
    studio = Studio(load_pipeline(place, precision), run, Limits(images=images))
    serve(studio, port)

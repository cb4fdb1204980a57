"""The command line: a short function a command, that parses, then calls; torch comes late."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from typer.completion import completion_init

from maskgit.cli import commands, measuring, own_images, serving
from maskgit.cli.options import app
from maskgit.stopping import Stopped, raising

__all__ = ["app", "commands", "main", "measuring", "own_images", "serving"]

COMPLETE = "_MASKGIT_COMPLETE"
"""The variable by which a shell asks how a line may go on."""


def _at_home(word: str) -> str:
    """`run=~/runs/x` and `--out=~/x`: no shell replaces a ~ in the middle of a word."""
    return re.sub(r"(^|=)~(?=/|$)", lambda found: found[1] + str(Path.home()), word)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Status 2 after a user's mistake, told in a line; 128 + n after signal n.

    MASKGIT_DEBUG=1 shows the traceback of either.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if COMPLETE in os.environ:
        completion_init()
    try:
        with raising():
            app([_at_home(word) for word in words], complete_var=COMPLETE)
    except Stopped as stopped:
        if os.environ.get("MASKGIT_DEBUG"):
            raise
        print(f"maskgit: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal_number)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("MASKGIT_DEBUG"):
            raise
        print(f"maskgit: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        from maskgit.processes import others_lost

        if os.environ.get("MASKGIT_DEBUG") or not others_lost(error):
            raise
        print(
            "maskgit: another process of this command is gone, or does not answer: the same "
            "command does what is left",
            file=sys.stderr,
        )
        sys.exit(2)
    finally:
        if "torch" in sys.modules:
            from maskgit.processes import leave_group

            leave_group()

"""The command line: one short function for each command, that parses, then calls; torch is imported where used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from maskgit.cli import commands, measuring
from maskgit.cli.options import app

__all__ = ["app", "commands", "main", "measuring"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. A user's mistake is one line and exit status 2; a signal that stopped training, 128 + its number.

    MASKGIT_DEBUG=1 shows the traceback of either.
    """
    try:
        app(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("MASKGIT_DEBUG"):
            raise
        print(f"maskgit: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        number = getattr(error, "signal_number", None)  # trainer.Stopped, which is not imported for --help
        if number is None:
            raise
        print(f"maskgit: {error}", file=sys.stderr)
        sys.exit(128 + number)
    finally:
        if "torch" in sys.modules:
            from maskgit.processes import leave_group

            leave_group()

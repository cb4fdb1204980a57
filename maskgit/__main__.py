"""`python -m maskgit` and `accelerate launch -m maskgit`: the command line."""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    try:
        main()
    except SystemExit as ended:
        processes = sys.modules.get("maskgit.processes")
        if processes is not None and isinstance(ended.code or 0, int):
            processes.end_at_once(ended.code or 0)
        raise

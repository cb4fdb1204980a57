"""Measure samples of a run, or of another program, with intervals and how they were made.

accelerate launch scripts/evaluate.py runs/mnist/maskgit --count 1000
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["evaluate", *sys.argv[1:]])

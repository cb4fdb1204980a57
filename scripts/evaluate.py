"""Measure samples of a run, or of another program, with intervals and how they were made.

accelerate launch scripts/evaluate.py runs/mnist/maskgit --count 1000
"""

import sys

from maskgit.cli import main

main(["evaluate", *sys.argv[1:]])

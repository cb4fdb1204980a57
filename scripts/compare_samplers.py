"""Samplers side by side on one model, at several numbers of rounds; run again, it continues.

accelerate launch --num_processes 8 scripts/compare_samplers.py runs/fashion_mnist/maskgit --count
5000
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["compare", *sys.argv[1:]])

"""Tokenise a data set once.

accelerate launch scripts/tokenize_dataset.py runs/mnist/vqgan --out runs/mnist/codes
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["tokenize", *sys.argv[1:]])

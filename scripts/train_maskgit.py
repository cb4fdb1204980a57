"""Train a generator on cached codes.

accelerate launch scripts/train_maskgit.py configs/mnist/maskgit.yaml
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["train", *sys.argv[1:]])

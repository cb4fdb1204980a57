"""Train a tokenizer.

accelerate launch scripts/train_vqgan.py configs/mnist/vqgan.yaml train.steps=500
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["train", *sys.argv[1:]])

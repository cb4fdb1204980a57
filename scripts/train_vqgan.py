"""Train a tokenizer.

accelerate launch scripts/train_vqgan.py configs/mnist/vqgan.yaml train.steps=500
"""

import sys

from maskgit.cli import main

main(["train", *sys.argv[1:]])

"""Train a generator on cached codes.

accelerate launch scripts/train_maskgit.py configs/mnist/maskgit.yaml
"""

import sys

from maskgit.cli import main

main(["train", *sys.argv[1:]])

"""Draw one grid of images by class.

python scripts/sample.py runs/mnist/maskgit --out grid.png
"""

import sys

from maskgit.cli import main

main(["sample", *sys.argv[1:]])

"""Draw one grid of images by class.

python scripts/sample.py runs/mnist/maskgit --out grid.png
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["sample", *sys.argv[1:]])

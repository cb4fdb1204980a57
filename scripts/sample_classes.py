"""Draw a folder of PNGs for every class; several processes share the work.

accelerate launch scripts/sample_classes.py runs/mnist/maskgit --per-label 100 --out samples
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["sample", *sys.argv[1:]])

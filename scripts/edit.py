"""Change a part of images: inpaint, outpaint, variation, interpolate.

python scripts/edit.py inpaint runs/fashion_mnist/maskgit validation:3 --box 0,0,28,12 --out
edited.png
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["edit", *sys.argv[1:]])

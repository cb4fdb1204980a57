"""Us against the peers and the machine.

python scripts/benchmark.py --quick
python scripts/benchmark.py --only sampling --cells 256
python scripts/benchmark.py quality
"""

import sys

from maskgit.cli import main

if __name__ == "__main__":  # not in a data worker that is spawned
    main(["benchmark", *sys.argv[1:]])

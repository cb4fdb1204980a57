"""Kills, full disks, modes, and two commands at once, by processes_driver.py."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import repo
from tests.faults.conftest import cases

pytestmark = [pytest.mark.faults, pytest.mark.slow]
ROWS = {"kills": (12, 204), "disk": (5, 75), "umask": (1, 3), "pairs": (4, 24)}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.timeout(3000)
def test_nothing_is_lost_and_nothing_half_written_is_used(tmp_path, row, tally):
    count = cases(*ROWS[row])
    command = [sys.executable, str(repo() / "tests" / "faults" / "processes_driver.py")]
    done = subprocess.run(
        [*command, str(tmp_path), row, str(count)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo())},
        cwd=repo(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    failed = [one for one in found if one["wrong"]]
    print(json.dumps(failed, indent=1))
    tally(f"processes: {row}", count - len(failed), count)

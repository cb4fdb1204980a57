"""Counts of faults that were tried, for the table in the sign of training/.

MASKGIT_FAULTS_LONG=1: as many of each as the table says, else a few. MASKGIT_FAULTS: a JSON file
that the counts are written to (`make faults`).
"""

import fcntl
import json
import os
from pathlib import Path

import pytest

LONG = os.environ.get("MASKGIT_FAULTS_LONG") == "1"


def cases(short, long):
    """How many cases to try in this form."""
    return long if LONG else short


@pytest.fixture
def tally():
    """tally(row, passed, count, **numbers): writes a row of the table; all must have passed."""

    def write(row, passed, count, **numbers):
        if path := os.environ.get("MASKGIT_FAULTS"):
            _add(Path(path), row, {"count": count, "passed": passed, **numbers})
        assert passed == count, f"{row}: {count - passed} of {count} failed"

    return write


HARMS = ("flip", "flip", "flip", "cut", "empty", "gone", "swap")


def harm(paths, draws):
    """Flip a bit of one of the files, cut it, empty it, remove it, or swap it with another.

    -> (how, the names of both), drawn by `draws`, a random.Random.
    """
    path, other = draws.sample(sorted(paths), 2)
    how, content = draws.choice(HARMS), bytearray(path.read_bytes())
    if how == "flip":
        content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    elif how == "cut":
        del content[draws.randrange(len(content)) :]
    elif how == "empty":
        content.clear()
    elif how == "swap":
        whole = bytes(content)
        content = other.read_bytes()
        other.write_bytes(whole)
    path.write_bytes(content)
    if how == "gone":
        path.unlink()
    return how, path.name, other.name


def _add(path, row, numbers):
    """Rows of several processes go into one file."""
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        rows = json.loads(file.read() or "{}")
        file.truncate(0)
        json.dump(rows | {row: numbers}, file, indent=1)

"""Tests mirror the wings: tests/<wing>/test_<module>.py, and one looks nowhere else."""

import pytest

from tests.conftest import repo

SMALL = 40
"""Lines up to which a module needs no test of its own."""
MODULES = [
    path.relative_to(repo())
    for package in ("maskgit", "vqgan")
    for path in sorted((repo() / package).rglob("[!_]*.py"))
    if len(path.read_text().splitlines()) > SMALL
]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_has_tests_of_its_name(path):
    inside = path.parts if path.parts[0] == "vqgan" else path.parts[1:]
    wing = inside[0] if len(inside) > 1 else ""
    assert (repo() / "tests" / wing / f"test_{path.stem}.py").is_file()

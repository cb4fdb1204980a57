"""Tests mirror the wings: a module has a test file of its name, or is named here with the one that tests it."""

import ast

from tests.conftest import repo

TESTED_IN = {
    "benchmark/test_parts.py": ["inputs", "plan"],
    "cli/test_commands.py": ["measuring", "quickstart"],
    "config/test_loading.py": ["choices", "sections"],
    "evaluation/test_comparison.py": ["places"],
    "evaluation/test_generator.py": ["instruments", "plan", "report", "request"],
    "pipeline/test_pipeline.py": ["drawing"],
    "samplers/test_samplers.py": ["predictor"],
    "vqgan/test_tokenizer.py": ["autoencoder"],
    "vqgan/test_perceptual.py": ["classifier"],
    "test_plots.py": ["pictures"],
}
SMALL = 40
"""Lines up to which a module needs no test of its own."""


def modules():
    """(package of the tests, path without the ending) of each module, `training`, `tasks/critic`."""
    for package in ("maskgit", "vqgan"):
        for path in sorted((repo() / package).rglob("[!_]*.py")):
            if len(path.read_text().splitlines()) > SMALL:
                inside = path.relative_to(repo() / package).with_suffix("")
                wing = "vqgan" if package == "vqgan" else ""
                yield wing or (inside.parts[0] if len(inside.parts) > 1 else ""), inside


def test_every_module_is_tested_where_one_looks():
    elsewhere = {name for names in TESTED_IN.values() for name in names}
    for wing, inside in modules():
        name = inside.relative_to(wing) if wing in inside.parts else inside
        own = repo() / "tests" / wing / f"test_{inside.name}.py"
        assert own.is_file() or {str(name), str(inside)} & elsewhere, inside


def test_the_list_names_files_that_are_there():
    known = {str(inside) for _, inside in modules()}
    for file, names in TESTED_IN.items():
        path = repo() / "tests" / file
        assert any(isinstance(node, ast.FunctionDef) for node in ast.parse(path.read_text()).body)
        for name in names:
            assert any(f"/{inside}".endswith(f"/{name}") for inside in known), name

"""The house: who may import whom, what a wing shows, and one door for each third party."""

import ast
from importlib import import_module

import pytest

from maskgit import TASKS
from tests.conftest import repo

ROWS = """
cli
benchmark serving
evaluation training editing importing
pipeline
pictures
data model
samplers config precision
schedules plots machine
randomness processes stopping
vqgan
"""
"""Arrows go down only; what stands in one row never imports each other."""

LEVELS = {place: row for row, line in enumerate(ROWS.split("\n")[1:]) for place in line.split()}
DOORS = {
    "x_transformers": {"maskgit/model/transformer.py", "maskgit/benchmark/"},
    "vector_quantize_pytorch": {"vqgan/quantizers/", "maskgit/benchmark/"},
    "muse_maskgit_pytorch": {"maskgit/benchmark/"},
    "diffusers": {"maskgit/benchmark/"},
    "torch_fidelity": {"maskgit/evaluation/"},
    "torchmetrics": {"maskgit/evaluation/", "vqgan/perceptual.py"},
    "prdc": {"maskgit/evaluation/"},
    "matplotlib": {"maskgit/plots.py"},
    "datasets": {"maskgit/data/sources/hub.py", "maskgit/data/sources/parquet.py"},
    "pyarrow": {"maskgit/data/sources/pages.py", "maskgit/data/sources/parquet.py"},
    "huggingface_hub": {"maskgit/pipeline/hub.py"},
    "omegaconf": {"maskgit/config/"},
    "pydantic": {"maskgit/config/"},
    "typer": {"maskgit/cli/"},
    "gradio": {"maskgit/serving/page.py"},
    "fastapi": {"maskgit/serving/page.py"},
    "uvicorn": {"maskgit/serving/page.py"},
    "optuna": {"maskgit/evaluation/tuning.py"},
    "accelerate": {"maskgit/training/", "maskgit/processes.py"},
}
FILES = sorted(
    path for package in ("maskgit", "vqgan", "scripts") for path in (repo() / package).rglob("*.py")
)
WINGS = sorted(
    path.name for path in (repo() / "maskgit").iterdir() if (path / "__init__.py").is_file()
)


def imported(path):
    """(module, name or none) of everything that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are written in full"
            yield from ((node.module, alias.name) for alias in node.names)


def place_of(module):
    """`maskgit.samplers.engine` -> samplers, `maskgit.plots` -> plots; vqgan is one place."""
    package, *rest = module.split(".")
    return package if package != "maskgit" or not rest else rest[0]


def place(path):
    return place_of(".".join(path.relative_to(repo()).with_suffix("").parts))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(repo())))
def test_arrows_go_down(path):
    used = {
        place_of(module if name is None else f"{module}.{name}") for module, name in imported(path)
    }
    here = place(path)
    assert not used & {"scripts", "tests"}
    if here == "scripts":
        assert used & {*LEVELS, "maskgit"} <= {"cli"}
    elif here in LEVELS:
        assert all(LEVELS[here] < LEVELS[there] for there in used & LEVELS.keys() - {here})


def test_there_are_ten_rows_and_every_place_has_one():
    here = {place(path) for path in FILES} - {"scripts", "__init__", "__main__", "maskgit"}
    assert here == LEVELS.keys() and len(ROWS.split("\n")[1:-1]) == 10
    assert len(list((repo() / "maskgit").glob("[!_]*"))) + 2 <= 22


@pytest.mark.parametrize("wing", WINGS)
def test_others_use_what_the_face_of_a_wing_shows(wing):
    shown = set(import_module(f"maskgit.{wing}").__all__)
    asked = {
        name
        for path in FILES
        if place(path) not in (wing, "scripts")
        for module, name in imported(path)
        if module.startswith(f"maskgit.{wing}") and place_of(module) == wing
    }
    assert asked - {"main"} <= shown


@pytest.mark.parametrize("package", ["maskgit", "vqgan", *(f"maskgit.{wing}" for wing in WINGS)])
def test_a_face_shows_what_there_is(package):
    module = import_module(package)
    assert module.__doc__.strip() and set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError):
        _ = module.nothing_of_that_name


def test_what_version_0_1_gave_is_given():
    names = (
        "Pipeline NonAutoregressiveWrapper Losses Transformer Guided GUIDANCE_SCHEDULES SCHEDULES"
    )
    for name in (*names.split(), "SAMPLERS", "SOURCES", "TASKS"):
        assert name in import_module("maskgit").__all__
    of_vqgan = {
        "Tokenizer",
        "QUANTIZERS",
        "DISCRIMINATORS",
        "PIXEL_LOSSES",
        "PERCEPTUAL",
        "ADVERSARIAL",
    }
    assert of_vqgan <= set(import_module("vqgan").__all__)
    assert {"load", "parse", "save", "known_configs"} <= set(
        import_module("maskgit.config").__all__
    )


@pytest.mark.parametrize("wing", [*WINGS, "../vqgan", "../configs"])
def test_every_wing_has_a_sign(wing):
    assert (repo() / "maskgit" / wing / "README.md").read_text().startswith("# ")


@pytest.mark.parametrize("library", DOORS)
def test_one_door_for_each_third_party(library):
    """A door is a file, or a folder, which ends in a slash."""
    files = [path for path in FILES if any(m.split(".")[0] == library for m, _ in imported(path))]
    users = {str(path.relative_to(repo())) for path in files}
    folders = {door for door in DOORS[library] if door.endswith("/")}
    assert {next((f for f in folders if user.startswith(f)), user) for user in users} == DOORS[
        library
    ]


def test_no_net_is_named_where_any_would_do():
    """Of the nets, only the model and the benchmark know a class."""
    for path in FILES:
        if place(path) not in ("model", "benchmark", "scripts"):
            names = {name for _, name in imported(path)}
            assert "Transformer" not in names or path.name == "__init__.py", path


def test_tasks_do_not_borrow_from_each_other():
    """What two of them need lies below them, or beside them in a file that is no task."""
    folder = repo() / "maskgit" / "training" / "tasks"
    siblings = {f"maskgit.training.tasks.{name}" for name in TASKS}
    for name in TASKS:
        assert not {module for module, _ in imported(folder / f"{name}.py")} & siblings, name


def test_rooms_are_small():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 350, path


def test_nothing_unpickles():
    """torch.load only with weights_only, and no pickle at all."""
    for path in FILES:
        roots = {module.split(".")[0] for module, _ in imported(path)}
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & roots, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", path


def test_no_file_names_a_device():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in ("cuda", "mps"), path

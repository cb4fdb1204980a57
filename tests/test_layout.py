"""The arrows: who may import whom, and one door for each third party."""

import ast

import pytest

from maskgit.training.tasks import TASKS
from tests.conftest import repo

LAYERS = [
    {"__init__", "__main__"},
    {"cli"},
    {"benchmark"},
    {"quickstart", "overview", "edits", "comparison"},
    {"places"},
    {"tuning"},
    {"evaluation", "reconstruction"},
    {"plan"},
    {"sampling", "report", "instruments"},
    {"seeing", "request"},
    {"trainer", "tokenization"},
    {"tasks"},
    {"learner", "averages"},
    {"metrics"},
    {"feature_sets"},
    {"features", "image_sets"},
    {"editing"},
    {"windows"},
    {"pipeline"},
    {"saved", "settings"},
    {"codes", "pictures", "plots", "ema", "checkpoints", "metrics_log", "presets"},
    {"order", "npz"},
    {"data"},
    {"config"},
    {"choices", "overrides"},
    {"sources", "signatures", "marks"},
    {"images"},
    {"wrapper", "backbones"},
    {"transformer"},
    {"predictor"},
    {"passes"},
    {"likelihood", "objective"},
    {"masking", "critic"},
    {"guidance", "samplers", "precision"},
    {"conditions"},
    {"schedules", "machine", "tables"},
    {"randomness", "processes", "keywords"},
]
DOORS = {
    "x_transformers": {"maskgit/transformer.py", "maskgit/benchmark/peers.py", "maskgit/benchmark/plain.py"},
    "vector_quantize_pytorch": {"vqgan/quantizers/", "maskgit/benchmark/plain.py"},
    "muse_maskgit_pytorch": {"maskgit/benchmark/peers.py"},
    "diffusers": {"maskgit/benchmark/peers.py"},
    "torch_fidelity": {"maskgit/metrics.py", "maskgit/features.py"},
    "prdc": {"maskgit/metrics.py"},
    "matplotlib": {"maskgit/plots.py"},
    "datasets": {"maskgit/sources/hub.py"},
    "omegaconf": {"maskgit/config.py", "maskgit/overrides.py"},
    "pydantic": {
        "maskgit/config.py", "maskgit/choices.py", "maskgit/marks.py", "maskgit/presets.py", "maskgit/signatures.py",
    },
    "typer": {
        "maskgit/cli/options.py",
        "maskgit/cli/derived.py",
        "maskgit/cli/commands.py",
        "maskgit/cli/measuring.py",
    },
    "optuna": {"maskgit/tuning.py"},
    "accelerate": {
        "maskgit/trainer.py", "maskgit/learner.py", "maskgit/averages.py", "maskgit/tasks/", "maskgit/processes.py",
    },
}  # fmt: skip
FILES = sorted(
    path for package in ("maskgit", "vqgan", "scripts") for path in (repo() / package).rglob("*.py")
)


def imports(path):
    """Full names of all modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def level(module):
    return next(i for i, layer in enumerate(LAYERS) if module in layer)


def room(path):
    return path.relative_to(repo()).parts[1].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(repo())))
def test_arrows_go_down(path):
    package = path.relative_to(repo()).parts[0]
    roots = {name.split(".")[0] for name in imports(path)}
    assert "scripts" not in roots and "tests" not in roots
    if package == "vqgan":
        assert "maskgit" not in roots
    if package == "scripts":
        assert {name for name in imports(path) if name.startswith(("maskgit", "vqgan"))} <= {
            "maskgit.cli",
            "maskgit.cli.main",
        }
    if package == "maskgit":
        known = {module for layer in LAYERS for module in layer}
        used = {name.split(".")[1] for name in imports(path) if name.startswith("maskgit.")} & known
        assert all(level(room(path)) < level(module) or room(path) == module for module in used)


@pytest.mark.parametrize("library", DOORS)
def test_one_door_for_each_third_party(library):
    """A door is a file, or a folder, which ends in a slash."""
    users = {
        str(p.relative_to(repo()))
        for p in FILES
        if any(name.split(".")[0] == library for name in imports(p))
    }
    folders = {door for door in DOORS[library] if door.endswith("/")}
    assert {next((f for f in folders if user.startswith(f)), user) for user in users} == DOORS[
        library
    ]


def test_tasks_do_not_borrow_from_each_other():
    """What two of them need lies below them, or beside them in a file that is no task."""
    tasks = {f"maskgit.tasks.{name}" for name in TASKS}
    for name in TASKS:
        assert not imports(repo() / "maskgit" / "tasks" / f"{name}.py") & tasks, name


def test_rooms_are_small():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 350, path


def test_nothing_unpickles():
    """torch.load only with weights_only, and no pickle at all."""
    for path in FILES:
        source = path.read_text()
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & {
            name.split(".")[0] for name in imports(path)
        }, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "load"):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert (
                    ast.unparse(node.func) != "torch.load" or keywords.get("weights_only") == "True"
                ), path


def test_no_file_names_a_device():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in ("cuda", "mps"), path

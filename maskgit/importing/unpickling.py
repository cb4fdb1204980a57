"""Files of torch.save, read by torch's own weights-only unpickler: tensors are built, nothing runs.

Where a file names a class that torch does not let in (a callback of Lightning, argparse.Namespace,
omegaconf), a harmless class takes its place. Any other global is refused.
"""

from __future__ import annotations

import re
import sys
import warnings
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
ARRAYS = "_reconstruct scalar"
INERT = {
    "argparse": "Namespace",
    "builtins": "bool bytes dict float frozenset int list object str tuple",
    "collections": "ChainMap UserDict UserList defaultdict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "numpy": "bool_ dtype float16 float32 float64 int32 int64 ndarray uint8",
    "numpy._core.multiarray": ARRAYS,
    "numpy.core.multiarray": ARRAYS,
    "pathlib": PATHS,
    "pathlib._local": PATHS,
    "types": "SimpleNamespace",
    "typing": "Any",
    "uuid": "UUID",
}
"""module -> its names that files hold beside weights, and that a stand-in may take the place of;
besides these, anything named as a class is, outside of Python's own library."""
MAX_STAND_INS = 100
UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not")
BLOCKED = re.compile(r"unsupported GLOBAL (\S+) whose module")
FILLED = re.compile(r"Can only (SETITEM|append)S? .* but got <class 'foreign\.(\S+)'>")


class StandIn:
    """What takes the place of an unknown class: it takes any arguments and state, keeps none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """An object without anything in it."""
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class MappingStandIn(StandIn):
    """In place of a kind of dict, into which the unpickler puts items."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A dict: the unpickler fills no other class of them."""
        return OrderedDict()


class ListStandIn(StandIn):
    """In place of a kind of list, to which the unpickler appends."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A list."""
        return []


def load_torch(path: Path, legacy: bool = False) -> tuple[Any, list[str]]:
    """(what torch.save wrote, the names that stand-ins took the place of).

    legacy: the format before torch 1.6, which cannot be mapped. ValueError, in one line, for a cut
    file and for a global that is no class, before anything of it runs.
    """
    kinds: dict[str, type[StandIn]] = {}
    while len(kinds) <= MAX_STAND_INS:
        try:
            stand_ins: list[Any] = [(_named(name, kind), name) for name, kind in kinds.items()]
            with torch.serialization.safe_globals(stand_ins):
                return _load(path, legacy), list(kinds)
        except OSError:
            raise
        except Exception as error:  # a hostile file makes torch raise anything
            name, kind = _wanted(path, str(error), kinds)
            kinds[name] = kind
    raise ValueError(f"{path} names more than {MAX_STAND_INS} foreign classes: refused")


def _load(path: Path, legacy: bool) -> Any:
    """By memory map, but for the older format and for a name by which torch takes it for
    safetensors; a newer protocol of pickle, of which torch warns, is read or refused."""
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        if legacy or path.suffix == ".safetensors":
            return torch.load(file, map_location="cpu", weights_only=True)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _named(name: str, kind: type[StandIn]) -> type[StandIn]:
    """A class of its own for each name, whose text holds the name."""
    return type(name, (kind,), {"__module__": "foreign", "__qualname__": name})


def _wanted(path: Path, why: str, kinds: dict[str, type[StandIn]]) -> tuple[str, type[StandIn]]:
    """The stand-in for want of which torch refused the file; ValueError if that was not it."""
    if found := UNKNOWN.search(why):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        if name not in kinds and is_inert(name):
            return name, StandIn
        raise _refusal(path, name)
    if found := BLOCKED.search(why):
        raise _refusal(path, found[1])
    if (found := FILLED.search(why)) and kinds.get(found[2]) is StandIn:
        return found[2], MappingStandIn if found[1] == "SETITEM" else ListStandIn
    line = re.sub(r".*WeightsUnpickler error: ", "", why, flags=re.S).strip().split("\n")[0]
    raise ValueError(f"{path} does not load; cut short or damaged, download it again ({line})")


def _refusal(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} is refused, and nothing of it was run: it asks for {name}, "
        "which no file of weights needs"
    )


def is_inert(name: str) -> bool:
    """Whether a stand-in may take the place of this global."""
    module, _, last = name.rpartition(".")
    # what old protocols write are the names of Python 2
    module, last = NAME_MAPPING.get((module, last), (IMPORT_MAPPING.get(module, module), last))
    if last in INERT.get(module, "").split():
        return True
    foreign = module.split(".")[0] not in sys.stdlib_module_names
    return foreign and last.lstrip("_")[:1].isupper()

"""Libraries that others import and hardly use, imported where their first function is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class Late(ModuleType):
    """A module whose names are functions, each of which imports it when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

        def call(*arguments: Any, **options: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*arguments, **options)

        return call


@contextmanager
def late(*names: str) -> Iterator[None]:
    """What is imported inside gets a `Late` module for each of these, unless it is there already.

    x_transformers and vector_quantize_pytorch import einx, which brings sympy and torch's compiler:
    seconds, for functions that no net of ours calls. Outside, all is as it was.
    """
    stubs = {name: Late(name) for name in names if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, stub in stubs.items():
            if sys.modules.get(name) is stub:
                del sys.modules[name]

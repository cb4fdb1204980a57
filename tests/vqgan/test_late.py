import sys
from types import ModuleType

import pytest

from vqgan.late import late


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A module that can be imported by this name."""
    (tmp_path / "slow_module.py").write_text("def twice(x, *, add=0):\n    return 2 * x + add\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "slow_module"
    sys.modules.pop("slow_module", None)


def test_what_is_imported_inside_is_there_with_the_first_call(slow):
    with late(slow):
        from slow_module import twice
    assert slow not in sys.modules
    assert twice(4, add=1) == 9
    assert sys.modules[slow].__file__


def test_a_module_that_is_there_stays(slow):
    import slow_module

    with late(slow):
        assert sys.modules[slow] is slow_module
    assert sys.modules[slow] is slow_module


def test_it_has_no_names_of_the_language(slow):
    with late(slow):
        import slow_module

        assert isinstance(slow_module, ModuleType) and not hasattr(slow_module, "__path__")


def test_a_failure_inside_leaves_nothing(slow):
    with pytest.raises(KeyError), late(slow):
        raise KeyError
    assert slow not in sys.modules

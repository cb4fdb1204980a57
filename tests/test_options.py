"""A contract over all tables: an option that is a number refuses what is none, and what cannot be."""

import inspect
from typing import get_type_hints

import pytest

from maskgit.config.signatures import chosen
from maskgit.data.sources import SOURCES
from maskgit.samplers import SAMPLERS
from maskgit.samplers.guidance import GUIDANCE_SCHEDULES
from maskgit.schedules import SCHEDULES
from vqgan.discriminator import DISCRIMINATORS
from vqgan.quantizers import QUANTIZERS
from vqgan.registry import OneOf, options_of

TABLES = {
    "sampler": (SAMPLERS, ("predictor", "codes", "seeds")),
    "schedule": (SCHEDULES, ("t",)),
    "guidance schedule": (GUIDANCE_SCHEDULES, ("r", "scale")),
    "quantizer": (QUANTIZERS, ("dim",)),
    "discriminator": (DISCRIMINATORS, ("channels",)),
    "data source": (SOURCES, ("split",)),
}
ANY_SIGN = {("sigmoid", "start"), ("sigmoid", "end")}
"""Numbers that may be below zero."""


def numbers():
    """(kind, entry, option) of every option that is a number."""
    for kind, (table, given) in TABLES.items():
        for name, entry in table.items():
            function = entry.__init__ if inspect.isclass(entry) else entry
            hints = get_type_hints(function)
            for option in options_of(entry, given):
                hint = str(hints[option])
                if ("int" in hint or "float" in hint) and "str" not in hint:
                    yield kind, name, option


@pytest.mark.parametrize(("kind", "name", "option"), list(numbers()))
def test_what_cannot_be_is_refused_by_name(kind, name, option):
    table, given = TABLES[kind]
    check = chosen(OneOf(table, kind, given))
    required = {
        key: "x"
        for key, parameter in options_of(table[name], given).items()
        if parameter.default is parameter.empty
    }
    wrong = [float("nan"), float("inf"), -float("inf"), "x", {}, [[1]]]
    wrong += [] if (name, option) in ANY_SIGN else [-1]
    for value in wrong:
        with pytest.raises(ValueError, match=option):
            check({"name": name, **required, option: value})

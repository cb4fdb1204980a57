"""Configs of small trainings."""

from maskgit.config.loading import parse, to_dict


def changed(config, **sections):
    values = to_dict(config)
    for section, new in sections.items():
        values[section] = {**(values[section] or {}), **new} if isinstance(new, dict) else new
    return parse(values, "test")

"""Settings: what to draw with, from a pipeline's own, a preset's, and what a call gives instead."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from maskgit.config.loading import validated
from maskgit.config.presets import Preset, choose_preset
from maskgit.samplers import SAMPLERS, critic_of
from vqgan.registry import check, split

WHERE_FROM = {
    "token_critic": "a token critic: train one (`maskgit train fashion_mnist/critic`)",
    "self_critic": "a critic of its own: train the generator with loss.self_token_critic=true",
}
"""How a model comes to have each of CRITICS."""


class Settings(NamedTuple):
    """What to draw with."""

    sampler: Any  # {name, steps, ...}
    guidance: Mapping[str, Any]  # {scale, schedule, interval}

    def check_negative(self) -> None:
        """ValueError if there is no guidance, by which a negative label works."""
        if self.guidance.get("scale", 1.0) == 1:
            raise ValueError(
                "a negative label works through guidance, whose scale is 1 here: set another"
            )


def settle(
    own: Settings,
    presets: dict[str, Preset],
    critics: Container[str],
    *,
    preset: str | None = None,
    sampler: str | Mapping[str, Any] | None = None,
    steps: int | None = None,
    guidance: float | Mapping[str, Any] | None = None,
    **options: Any,
) -> Settings:
    """`own` settings, or those of a preset, with what a call gives instead.

    sampler: an entry of SAMPLERS; of another one than the settings', only the steps are kept.
    guidance: its scale, 1 for none, or `{scale, schedule, interval}`. options: the sampler's.
    critics: those that the model has, of CRITICS. ValueError if there is no such sampler or option,
    or if it needs a critic that is not there.
    """
    chosen = None if preset is None else choose_preset(presets, preset)
    name, keywords = split(own.sampler if chosen is None else chosen.sampler, "sampler")
    if sampler is not None:
        other, given = split(sampler, "sampler")
        kept = keywords if other == name else {k: v for k, v in keywords.items() if k == "steps"}
        name, keywords = other, kept | given
    found = {"name": name} | keywords | options | ({} if steps is None else {"steps": steps})
    check(SAMPLERS, found, "sampler", ["predictor", "codes", "seeds"])
    guided = dict(own.guidance)
    if chosen is not None and chosen.guidance is not None:
        guided = chosen.guidance.model_dump()
    if guidance is not None:
        guided |= guidance if isinstance(guidance, Mapping) else {"scale": guidance}
    own_made = {key: value for key, value in found.items() if callable(value)}  # no config's
    told = {key: value for key, value in found.items() if key not in own_made}
    valid = validated(Preset, {"sampler": told, "guidance": guided}, "settings")
    found = {"name": name, **split(valid.sampler, "sampler")[1], **own_made}
    critic = critic_of(SAMPLERS[name])
    if critic is not None and critic not in critics:
        raise ValueError(f"the {name} sampler needs a model with {WHERE_FROM[critic]}")
    return Settings(found, guided)

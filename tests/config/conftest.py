"""What several tests of this wing share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Ge, Len
from torch import Tensor

from maskgit.config.keywords import keywords_of


@pytest.fixture
def yaml(tmp_path):
    def write(text):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return path

    return write


Places = Annotated[Sequence[Annotated[int, Ge(0)]], Len(2, 2)]


def blur(
    image,
    *,
    seed: int = 0,
    radius: Annotated[float, Ge(0), "in pixels"] = 1.0,
    at: Places | None = None,
):
    """An entry."""


def paste(
    image,
    *,
    mask: Annotated[Tensor | None, Path],
    radius: int = 2,
    twice: bool = False,
    by: Tensor = None,
):
    """Another."""


FOUND = keywords_of({"blur": blur, "paste": paste}, given=["seed"])

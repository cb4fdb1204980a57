import pytest

from maskgit.data.sources import SOURCES
from maskgit.pipeline.model_card import LICENCES, card, table, training_seconds


def test_a_table_is_markdown():
    assert (
        table(("", "a"), [("x", "1"), ("y", "2")])
        == "|  | a |\n| --- | --- |\n| x | 1 |\n| y | 2 |"
    )


def test_the_time_of_the_steps_is_that_of_their_speed(tiny_pipeline, tmp_path):
    tiny_pipeline.run = {"train": {"batch_size": 10, "steps": 30}}
    path = tmp_path / "metrics.jsonl"
    assert training_seconds(tiny_pipeline, path) == 0
    path.write_text('{"step": 10, "cells_per_second": 160}\n{"step": 30, "cells_per_second": 80}\n')
    assert training_seconds(tiny_pipeline, path) == 10 * 160 / 160 + 20 * 160 / 80


@pytest.mark.parametrize("name", LICENCES)
def test_a_licence_that_is_known_is_told(tiny_pipeline, tmp_path, name):
    tiny_pipeline.data = {"source": name}
    assert name in SOURCES
    text = card(tiny_pipeline, tmp_path, "me/it", on_hub=True)
    assert f"`{name}`, licence: {LICENCES[name][0]} ({LICENCES[name][1]})." in text


def test_weights_of_others_are_said_to_be_theirs(tiny_pipeline):
    origin = {"title": "Halton", "url": "https://a.org", "licence": "MIT", "file": "x.pth"}
    tiny_pipeline.run = {"imported": {**origin, "sha256": "0" * 64}}
    text = card(tiny_pipeline, None, "it", on_hub=False)
    assert "Weights of [Halton](https://a.org), licence MIT, read from `x.pth`" in text
    assert "## Data" not in text and "## Training" not in text

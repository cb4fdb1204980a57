import json

import numpy as np
import pytest

from maskgit.pipeline.pipeline import Pipeline
from tests.pipeline.conftest import LABELS, SEEDS


def arrays(images):
    return [np.asarray(image) for image in images]


def test_save_and_load_draw_the_same(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "run" / "pipeline")
    for folder in (tmp_path / "run", tmp_path / "run" / "pipeline"):
        again = Pipeline.from_pretrained(folder)
        assert again.class_names == tiny_pipeline.class_names
        for a, b in zip(
            arrays(again.generate(LABELS, SEEDS)),
            arrays(tiny_pipeline.generate(LABELS, SEEDS)),
            strict=True,
        ):
            assert (a == b).all()
    (tmp_path / "run" / "pipeline" / "notes.txt").touch()
    tiny_pipeline.save_pretrained(tmp_path / "run" / "pipeline")
    names = sorted(p.name for p in (tmp_path / "run" / "pipeline").iterdir())
    assert names == ["config.json", "model.safetensors", "notes.txt", "tokenizer.safetensors"]


def test_foreign_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no generator in"):
        Pipeline.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Amused"}))
    with pytest.raises(ValueError, match="is not a maskgit-pipeline-2"):
        Pipeline.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Pipeline.from_pretrained(tmp_path)

import json

import numpy as np
import pytest
import torch

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


def test_files_in_fp16_are_half_as_large_and_loaded_as_fp32(tiny_pipeline, tmp_path):
    whole = tiny_pipeline.save_pretrained(tmp_path / "whole")
    half = tiny_pipeline.save_pretrained(tmp_path / "half", precision="fp16")
    again = Pipeline.from_pretrained(half)
    for before, after in zip(
        tiny_pipeline.model.parameters(), again.model.parameters(), strict=True
    ):
        assert after.dtype == torch.float32 and torch.equal(after, before.half().float())
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.7 * sizes[0]
    path = half / "tokenizer.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\0\1")
    with pytest.raises(ValueError, match="is damaged"):
        Pipeline.from_pretrained(half)
    with pytest.raises(ValueError, match="unknown precision of files 'fp8'"):
        tiny_pipeline.save_pretrained(half, precision="fp8")

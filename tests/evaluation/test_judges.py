import pytest

from maskgit.evaluation.judges import beside, judge_of, kept_judge
from vqgan.classifier import Classifier

DATA = {"source": {"name": "folder", "root": "images"}, "image_size": 16, "channels": 3}


@pytest.fixture
def run(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("maskgit.evaluation.judges.warn_once", print)
    tiny_pipeline.data = DATA
    folder = tmp_path / "runs" / "mine" / "maskgit"
    tiny_pipeline.save_pretrained(folder / "pipeline")
    return folder


def write(place, names, data=DATA):
    about = {"class_names": list(names), "run": {"data": data}}
    Classifier(channels=3, num_classes=len(names)).save(place / "classifier.safetensors", about)
    return place


def test_the_one_beside_the_run_comes_first(run, tiny_pipeline):
    other = write(run.parent / "a_classifier", tiny_pipeline.class_names)
    assert judge_of(run) == other
    assert judge_of(run) != write(run.parent / "classifier", ["x", "y"])
    assert judge_of(run) == beside(run) == run.parent / "classifier"


@pytest.mark.parametrize(
    "place", ["runs/mine/maskgit/judge", "runs/other/classifier", "runs/judge-2"]
)
def test_one_of_the_same_images_is_found_wherever_it_lies(run, tiny_pipeline, place, capsys):
    judge = write(run.parents[2] / place, tiny_pipeline.class_names)
    assert judge_of(run).resolve() == judge
    assert "judged by" in capsys.readouterr().out


def test_others_are_passed_over(run, tiny_pipeline):
    write(run.parent / "perceptual", tiny_pipeline.class_names)
    write(run.parent / "classifier-2", ["x", *tiny_pipeline.class_names[1:]])
    write(run.parent / "classifier-3", tiny_pipeline.class_names, DATA | {"source": "mnist5k"})
    write(run.parent / "classifier-4", tiny_pipeline.class_names, DATA | {"image_size": 8})
    write(run.parent / "classifier-5", tiny_pipeline.class_names, DATA | {"resize": "contain"})
    (run.parent / "judge").mkdir()
    (run.parent / "judge" / "classifier.safetensors").write_bytes(b"broken")
    assert judge_of(run) is None and judge_of(None) is None
    kept = write(kept_judge(run), tiny_pipeline.class_names)
    assert judge_of(run) == kept

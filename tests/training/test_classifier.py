from maskgit.config.loading import parse
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train


def test_the_classifier_learns_to_tell(image_folder, tmp_path):
    data = {
        "source": {"name": "folder", "root": str(image_folder)},
        "image_size": 16,
        "channels": 1,
    }
    steps = {
        "steps": 40,
        "batch_size": 8,
        "warmup_steps": 2,
        "trackers": [],
        "mixed_precision": "no",
    }
    config = parse({"task": "classifier", "run": str(tmp_path / "c"), "data": data, "model": {"width": 8}, "train": steps}, "")  # fmt: skip
    train(config)
    rows = [row for row in read_metrics(tmp_path / "c" / "metrics.jsonl") if "accuracy" in row]
    assert rows[-1]["accuracy"] == 1.0

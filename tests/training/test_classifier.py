from maskgit.config.loading import parse
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train
from vqgan.classifier import Classifier


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
        "precision": "fp32",
    }
    config = parse({"task": "classifier", "run": str(tmp_path / "c"), "data": data, "model": {"width": 8}, "train": steps}, "")  # fmt: skip
    train(config)
    rows = [row for row in read_metrics(tmp_path / "c" / "metrics.jsonl") if "accuracy" in row]
    assert rows[-1]["accuracy"] == 1.0


def test_a_witness_is_of_the_kind_and_shift_that_its_config_says(image_folder, tmp_path):
    data = {"source": {"name": "folder", "root": str(image_folder)}, "image_size": 16, "channels": 1}  # fmt: skip
    steps = {"steps": 2, "batch_size": 8, "trackers": [], "precision": "fp32", "log_every": 1}
    model = {"width": 8, "pooling": "average", "kernel_size": 5}
    losses = []
    for shift in (0, 3):
        run = tmp_path / f"shifted by {shift}"
        asked = {"task": "classifier", "run": str(run), "data": data, "model": model}
        train(parse(asked | {"shift": shift, "train": steps}, ""))
        losses.append([row["loss"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row])
        classifier, _ = Classifier.load(run / "classifier.safetensors")
        assert classifier.config == {"channels": 1, "num_classes": 2, **model}
    assert losses[0] != losses[1]

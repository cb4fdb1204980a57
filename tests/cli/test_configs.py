from maskgit.cli.own.choosing import SHARES, WITHOUT_CLASSES, Plan, tokenizer_model
from maskgit.cli.own.configs import load_configs, values_of, write_configs
from maskgit.config import load


def plan(shares=SHARES):
    return Plan(
        "mnist5k", 10, dict(shares), {"image_size": 32, "channels": 1, "flip": False},
        tokenizer_model([32, 64], 4, 1),
        {"dim": 128, "depth": 4, "heads": 4, "dim_head": 32, "dropout": 0.1},
        {"vqgan": 0.1, "maskgit": 0.1},
    )  # fmt: skip


def test_ordinary_configs_are_written_and_kept_when_edited(tmp_path):
    paths = write_configs(plan(), tmp_path)
    assert [*paths] == ["perceptual", "vqgan", "maskgit", "classifier"], "in the order of training"
    first = paths["vqgan"].read_text()
    assert first.startswith("# the tokenizer") and f"maskgit train {paths['vqgan']}" in first
    configs = load_configs(paths)
    assert configs["maskgit"].tokenizer == configs["vqgan"].run == str(tmp_path / "vqgan")
    assert configs["vqgan"].loss.perceptual["weights"] == configs["perceptual"].run
    assert configs["vqgan"].train.minutes == 3.6
    assert configs["perceptual"].seed != configs["classifier"].seed
    assert configs["vqgan"].train.eval_every == 360, "some six evaluations"
    assert configs["vqgan"].train.warmup_steps == 100
    paths["vqgan"].write_text(first.replace("batch_size: 32", "batch_size: 16"))
    write_configs(plan(), tmp_path)
    assert load(paths["vqgan"]).train.batch_size == 16


def test_without_classes_there_is_no_net_to_see_by(tmp_path):
    assert [*write_configs(plan(WITHOUT_CLASSES), tmp_path)] == ["vqgan", "maskgit"]
    assert "loss" not in values_of(plan(WITHOUT_CLASSES), "vqgan", tmp_path)

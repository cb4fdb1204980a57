from maskgit.benchmark import (
    fair,
)
from maskgit.config.loading import load


def test_the_classifier_of_a_perceptual_loss_is_trained_first_and_is_not_the_judge(
    tmp_path, monkeypatch
):
    trained = []
    monkeypatch.setattr(fair, "train", trained.append)
    [override] = fair.with_perceptual("fashion_mnist", tmp_path / "seen")
    [config] = trained
    assert (
        config.run == str(tmp_path / "seen")
        and config.seed != load("fashion_mnist/classifier").seed
    )
    assert load("fashion_mnist/vqgan", [override]).loss.perceptual["weights"] == config.run
    assert fair.with_perceptual("mnist", tmp_path / "seen") == [] and len(trained) == 1

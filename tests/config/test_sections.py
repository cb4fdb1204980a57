import pytest

from maskgit.config.loading import CONFIGS
from maskgit.config.sections import (
    ClassifierConfig,
    CriticConfig,
    GuidanceConfig,
    MaskGITConfig,
    TokenizerConfig,
    TrainConfig,
)


@pytest.mark.parametrize("task", CONFIGS)
def test_every_field_has_a_default_that_works(task):
    assert CONFIGS[task]().task == task


def test_sections_of_a_table_have_the_options_of_its_entry_and_no_others():
    """Sizes come from the data or the code cache, and are no option."""
    tokenizer, net = TokenizerConfig().model, MaskGITConfig().model
    assert "widths" in type(tokenizer).model_fields and net.name == "transformer"
    assert not {"image_size", "channels"} & set(type(tokenizer).model_fields)
    assert not {"codebook_size", "grid", "num_classes"} & set(type(net).model_fields)
    assert not {"net", "mask_id", "steps"} & set(type(MaskGITConfig().loss).model_fields)
    assert set(type(ClassifierConfig().model).model_fields) == {"width", "pooling", "kernel_size"}


def test_a_token_critic_is_there_only_if_it_is_asked_for():
    assert MaskGITConfig().critic is None and CriticConfig().model.name == "transformer"
    assert MaskGITConfig(critic={"depth": 1}).critic.depth == 1


def test_an_interval_rises():
    assert GuidanceConfig(interval=(0.2, 0.2)).interval == (0.2, 0.2)
    with pytest.raises(ValueError, match="goes from a smaller to a larger number"):
        GuidanceConfig(interval=(0.8, 0.2))


def test_precision_of_version_0_1_is_no_though_yaml_says_false():
    assert TrainConfig(mixed_precision=False).precision == "fp32"
    with pytest.raises(ValueError):
        TrainConfig(mixed_precision=True)

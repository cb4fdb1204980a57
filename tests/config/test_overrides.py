from maskgit.config.loading import load


def test_an_override_with_a_mapping_replaces_the_old_one(yaml):
    path = yaml("task: tokenizer\nmodel: {quantizer: {name: vq, codebook_size: 64}}\n")
    assert load(path, ["model.quantizer={name: fsq, levels: [4, 4]}"]).model.quantizer == {
        "name": "fsq",
        "levels": [4, 4],
    }


def test_an_option_can_be_set_on_a_choice_that_is_only_a_name(yaml):
    config = load(
        yaml("task: tokenizer\ndata: {source: fashion_mnist}\n"), ["data.source.hub=true"]
    )
    assert config.data.source == {"name": "fashion_mnist", "hub": True}

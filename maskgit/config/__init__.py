"""Config: YAML and `a.b=c` overrides -> frozen objects that refuse what is unknown; presets."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "loading": [
            "find_config",
            "flatten",
            "known_configs",
            "load",
            "override_section",
            "parse",
            "save",
            "to_dict",
            "validated",
            "write_yaml",
        ],
        "sections": [
            "AdversarialConfig",
            "ClassifierConfig",
            "Config",
            "CriticConfig",
            "DecoderConfig",
            "DataConfig",
            "GuidanceConfig",
            "MaskGITConfig",
            "ReconstructionLoss",
            "TokenizerConfig",
            "TrainConfig",
        ],
        "marks": ["may_change"],
        "overrides": ["parse_choice", "parse_sections"],
        "presets": ["Preset", "choose_preset", "load_presets", "save_preset"],
        "keywords": ["Keyword", "keywords_of", "option_name", "parts_of"],
    },
)

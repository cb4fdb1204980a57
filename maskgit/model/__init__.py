"""Model: codes and a condition -> logits -> loss, in torch only."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "backbones": [
            "BACKBONES",
            "SHAPE",
            "Backbone",
            "make_backbone",
            "make_critic",
            "num_parameters",
            "spec_of",
        ],
        "transformer": ["FLASH_FROM", "Transformer"],
        "objective": ["Losses"],
        "wrapper": ["NonAutoregressiveWrapper"],
        "conditioned": ["Conditioned"],
        "draws": ["Draws"],
        "graphs": ["without_graphs"],
        "passes": ["AROUND", "compiled_layers"],
    },
)

"""Images <-> grids of codes: a convolutional autoencoder with a discrete bottleneck.

A pure model package: it knows no data set, no training loop and no file but its own weights.
"""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "tokenizer": ["Tokenizer"],
        "tokenizers": ["TOKENIZERS", "load_tokenizer"],
        "quantizers": ["QUANTIZERS"],
        "discriminator": ["DISCRIMINATORS"],
        "losses": ["ADVERSARIAL", "PIXEL_LOSSES"],
        "perceptual": ["PERCEPTUAL"],
        "classifier": ["Classifier"],
    },
)

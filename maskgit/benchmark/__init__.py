"""Benchmark: us against peers and machine, time to quality, what settings are worth."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "gpu": ["run_gpu"],
        "speed": ["QUICK", "run_benchmark"],
        "parts": ["Plan"],
        "quality": ["run_quality"],
        "settings": ["run_settings"],
        "tokenizers": ["run_tokenizers"],
    },
)

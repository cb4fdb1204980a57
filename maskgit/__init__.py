"""Image-token generation, MaskGIT style: train, sample and share masked-code models.

from maskgit import Pipeline
images = Pipeline.from_pretrained("runs/mnist/maskgit").generate(labels=[3, 3, 7], seeds=[0, 1, 2])
"""

from vqgan.faces import face

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "pipeline": ["Pipeline"],
        "importing": ["IMPORTERS", "import_weights", "load_tokenizer"],
        "model": ["BACKBONES", "Losses", "NonAutoregressiveWrapper", "Transformer"],
        "samplers": ["GUIDANCE_SCHEDULES", "SAMPLERS", "Guided"],
        "schedules": ["SCHEDULES"],
        "editing": ["EDITS", "edit"],
        "data": ["SOURCES"],
        "training": ["TASKS"],
    },
)

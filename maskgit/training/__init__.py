"""Training: one loop for every task, with exact resume."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "trainer": ["Stopped", "make_accelerator", "train", "with_precision"],
        "tasks": ["TASKS", "Task"],
        "checkpoints": ["checkpoints"],
        "metrics_log": ["read_metrics"],
    },
)

"""Training: one loop for every task, with exact resume."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "trainer": ["Stopped", "train"],
        "launch": ["check_trackers", "make_accelerator", "with_precision"],
        "tasks": ["TASKS", "Task"],
        "checkpoints": ["checkpoints", "why_broken"],
        "metrics_log": ["read_metrics"],
        "compiling": ["compile_step"],
        "learner": ["Learner", "finish"],
    },
)

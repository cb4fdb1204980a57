"""Evaluation: numbers about images, with intervals; tuning and comparison by them."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "request": ["Evaluation", "TokenizerEvaluation", "is_tokenizer", "tokenizer_request"],
        "judges": ["judge_of", "kept_judge"],
        "generator": ["evaluate", "told"],
        "tokenizer": ["PIXEL_METRICS", "evaluate_tokenizer", "measure_tokenizer"],
        "report": ["Number", "Results", "write_report"],
        "metrics": ["METRICS", "estimate", "fid"],
        "feature_sets": ["extract"],
        "features": ["FEATURES", "FeatureNetwork", "load_features"],
        "image_sets": ["ImageSet", "from_npz", "from_pipeline", "from_source", "reconstructions"],
        "plan": ["data_of"],
        "tables": [
            "keep",
            "kept",
            "known",
            "markdown",
            "over_seeds",
            "shown",
            "write_json",
            "write_text",
        ],
        "tuning": ["Search", "run_tuning"],
        "places": ["Comparison"],
        "comparison": ["run_comparison"],
    },
)

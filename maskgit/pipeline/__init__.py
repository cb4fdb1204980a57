"""Pipeline: from a folder of weights to images, and what the command line draws with it."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "pipeline": ["Pipeline"],
        "asked": ["at_least_one", "check_seed"],
        "settings": ["Settings"],
        "found": ["at_hand", "check_own", "check_there", "is_own", "results_beside"],
        "hub": ["PREFIX", "fetch"],
        "saved": [
            "check_header",
            "class_names_of",
            "data_of",
            "pipeline_folder",
            "pipeline_hashes",
            "read_hashed",
            "run_of",
            "settings_of",
        ],
        "drawing": [
            "Request",
            "class_grid",
            "compile_for",
            "draw_grid",
            "draw_images",
            "draw_npz",
            "draw_views",
            "label_in",
            "load_pipeline",
            "stream_items",
            "warn_of_preset",
        ],
        "sharing": ["share"],
        "shipped": ["FOLDER", "shipped", "shipped_names"],
        "labels": ["parse_labels"],
        "decoding": ["decoded"],
        "views": ["Views", "frames", "watched"],
    },
)

"""Data: images from anywhere -> pixels, and the cache of their codes; which of them a step sees."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "pixels": [
            "Transform",
            "open_image",
            "save_png",
            "save_pngs",
            "is_whole_png",
            "to_float",
            "to_mask",
            "to_pil",
            "to_pixels",
            "to_uint8",
        ],
        "datasets": [
            "Batch",
            "Dataset",
            "ImageDataset",
            "Quarantine",
            "image_datasets",
            "transform_of",
        ],
        "order": ["StepOrder", "batches", "chunks_of", "in_order", "spread"],
        "codes": ["CodeDataset", "check_tokenizer", "code_datasets", "code_usage"],
        "resident": ["on_device"],
        "manifest": ["FORMAT", "MANIFEST", "content_of", "read_manifest", "write_sealed"],
        "tokenization": ["tokenize_dataset", "tokenizer_data"],
        "shards": ["write_shard"],
        "fingerprint": ["data_hash"],
        "npz": ["npz_arrays", "open_array", "read_npz", "reading_npz", "write_npz"],
        "inspection": ["MOST", "Inspection", "inspect"],
        "inspection_report": ["inspection_report"],
        "contact_sheet": ["contact_sheet"],
        "sources": [
            "SOURCES",
            "SPLITS",
            "Skipped",
            "Source",
            "Tree",
            "check_labels",
            "describe",
            "load_source",
            "named",
            "readable_suffixes",
        ],
    },
)

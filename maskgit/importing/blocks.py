"""Names of transformer blocks around torch's MultiheadAttention, under ours (BertBlock)."""

from __future__ import annotations

from maskgit.importing.system import Rules, Sizes, Tensors, shape_of

BLOCKS: Rules = [
    (r"^transformer\.layers\.(\d+)\.0\.norm\.", r"blocks.\1.norm1."),
    (r"^transformer\.layers\.(\d+)\.0\.(?:fn\.)?mha\.in_proj_", r"blocks.\1.to_qkv."),
    (r"^transformer\.layers\.(\d+)\.0\.(?:fn\.)?mha\.out_proj\.", r"blocks.\1.to_out."),
    (r"^transformer\.layers\.(\d+)\.1\.norm\.", r"blocks.\1.norm2."),
    (r"^transformer\.layers\.(\d+)\.1\.(?:fn\.)?net\.0\.", r"blocks.\1.w1."),
    (r"^transformer\.layers\.(\d+)\.1\.(?:fn\.)?net\.[23]\.", r"blocks.\1.w2."),
]


def codes_and_classes(sizes: Sizes, rows: int, beside: int, classes: str) -> tuple[int, int]:
    """How many there are of each in a table of `rows`, with `beside` others in it.

    classes: the name of their number in the project's config. ValueError if sizes do not say, or
    cannot be: the published tables are of 1,024 codes and 1,000 classes.
    """
    given = sizes.given.get(classes)
    known = 1024 if rows == 1024 + 1000 + beside else None
    if given is not None:
        known = rows - beside - sizes.whole(classes)
    codes = sizes.whole("codebook_size", known if known is None else max(known, 1))
    number = rows - beside - codes
    if codes < 1 or number < 1 or (given is not None and given != number):
        raise ValueError(
            f"its table of {rows} rows does not hold {codes} codes, {beside} others and "
            f"{'any' if given is None else given} classes: see codebook_size and {classes} in "
            "--sizes"
        )
    return codes, number


def positions_of(tensors: Tensors, dim: int) -> int:
    """How many `pos_emb` (1, positions, dim) holds; ValueError for another shape."""
    one, positions, width = shape_of(tensors, "pos_emb", 3)
    if (one, width) != (1, dim):
        raise ValueError(f"its pos_emb is {(one, positions, width)}, not of {dim} channels")
    return positions

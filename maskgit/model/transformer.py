"""Transformer: codes and class labels -> logits. Only it and benchmarks use x_transformers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from maskgit.model.passes import Keep, Modulation, Passes, embed_at, modulation
from maskgit.model.rows import make_row_invariant
from maskgit.model.shared_levels import share_levels
from maskgit.samplers.predictor import places_of
from vqgan.late import late
from vqgan.registry import Asks, Repeats, Share, Size

# its import still calls torch.jit.script, deprecated in torch 2.14
with late("einx"), warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from x_transformers import Encoder, TransformerWrapper
    from x_transformers.x_transformers import apply_rotary_pos_emb

FLASH_FROM = 128
"""Cells from which torch's fused attention is used; below, plain attention is faster on the CPU
(1.35x at 49 cells)."""


Positions = Literal["learned", "rotary"]
POSITIONS = get_args(Positions)
TURNING = 4
"""Numbers of a head that turn together: a pair by the row and one by the column."""

ADAPTIVE = {"use_adaptive_layernorm": True, "use_adaptive_layerscale": True}
"""The norms of the layers: the condition scales what goes in, and gates what comes out."""


def rotary_angles(
    height: int,
    width: int,
    dim_head: int,
    *,
    codes_per_cell: int = 1,
    base: float = 100.0,
    device: Any = None,
) -> Tensor:
    """Angles of 2-D rotary positions (axial RoPE, arXiv:2403.13298): (1, height * width, dim_head).

    The first half of a head turns with the row, the second with the column, in neighbouring pairs
    of one frequency. The `codes_per_cell` columns of a cell are one place.
    """
    frequencies = base ** -(torch.arange(0, dim_head // 2, 2, device=device) / (dim_head // 2))
    places = (
        torch.arange(height, device=device),
        torch.arange(width, device=device) // codes_per_cell,
    )
    axes = [place[:, None] * frequencies for place in places]
    rows, columns = (axis.repeat_interleave(2, dim=1) for axis in axes)
    both = (rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1))
    return torch.cat(both, dim=-1).flatten(0, 1)[None]


def _check_positions(positions: str, dim_head: int) -> None:
    """ValueError for an unknown kind, or one that the heads have no room for."""
    if positions not in POSITIONS:
        raise ValueError(f"positions are {' or '.join(POSITIONS)}, not {positions!r}")
    if positions == "rotary" and dim_head % TURNING:
        raise ValueError(
            f"rotary positions need a dim_head that divides by {TURNING}, not {dim_head}"
        )


class Transformer(nn.Module):
    """A bidirectional transformer over a grid of codes, conditioned on a class by adaptive norms.

    codes: (batch, height, width) int64 in [0, codebook_size], codebook_size being the mask token.
    condition: class labels, (batch,) int64 in [0, num_classes], num_classes being "no label".
    flash: torch's fused attention; by default on accelerators, and from FLASH_FROM cells on.
    positions: "learned", for grids of this size only, or "rotary" (by rows and columns), for any.
    num_outputs: logits of a cell, by default one for each code; 1 for a token critic.
    codes_per_cell: how many columns stand for one cell, coarse to fine (see RVQ of vqgan); with
    rotary positions each depth is told by an embedding, learned ones tell it themselves.
    code_levels: those of vqgan.Tokenizer; then what a code's numbers mean is learned once for all
    codes (SharedLevels).

    It has the surface of x-transformers' TransformerWrapper that NonAutoregressiveWrapper asks for
    (`emb_dim`, `num_tokens`, `return_embeddings`, `sum_embeds`, `to_logits`), over 2-D grids.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        dim: Size = 256,
        depth: Repeats = 6,
        heads: Size = 4,
        dim_head: Size = 64,
        mlp_ratio: Annotated[float, Gt(0), Le(1000)] = 4.0,
        dropout: Share = 0.0,
        label_in_input: bool = True,
        flash: bool | None = None,
        positions: Annotated[Positions, Asks("rotary", "dim_head", TURNING)] = "learned",
        num_outputs: int | None = None,
        codes_per_cell: int = 1,
        code_levels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.config = {
            key: value for key, value in locals().items() if key not in ("self", "__class__")
        }
        _check_positions(positions, dim_head)
        self.codebook_size, self.num_classes = codebook_size, num_classes
        self.positions, self.dim_head, self.codes_per_cell = positions, dim_head, codes_per_cell
        self.dropout, self.mask_id = dropout, codebook_size
        self.grid = (int(grid[0]), int(grid[1]))
        self.emb_dim, self.num_tokens, self.output_is_log_prob = dim, codebook_size + 1, False
        self.max_seq_len = self.grid[0] * self.grid[1]
        self.label_embedding = nn.Embedding(num_classes + 1, dim)
        nn.init.normal_(self.label_embedding.weight, std=0.5)
        self.label_to_input = nn.Linear(dim, dim, bias=False) if label_in_input else None
        self.flash = self.max_seq_len >= FLASH_FROM if flash is None else flash
        self.flash_elsewhere = flash is not False
        self.depth_embedding = None
        if positions == "rotary" and codes_per_cell > 1:
            self.depth_embedding = nn.Parameter(torch.randn(codes_per_cell, dim) * (2 / dim) ** 0.5)
        layers = Encoder(
            dim=dim,
            depth=depth,
            heads=heads,
            attn_dim_head=dim_head,
            attn_flash=self.flash,
            attn_dropout=dropout,
            attn_project_out=True,  # else a single head of another width than dim does not fit
            ff_dropout=dropout,
            ff_mult=mlp_ratio,
            dim_condition=dim,
            **ADAPTIVE,
        )
        self.net = TransformerWrapper(
            num_tokens=self.num_tokens,
            logits_dim=num_outputs or codebook_size,
            max_seq_len=self.max_seq_len,
            use_abs_pos_emb=positions == "learned",
            attn_layers=layers,
        )
        make_row_invariant(self)
        if code_levels:
            self._share_levels(code_levels)

    def _share_levels(self, code_levels: Sequence[int]) -> None:
        """Make the vectors of codes, and the head of a generator, of those of their numbers."""
        share_levels(self.net.token_emb.emb, self.codebook_size, code_levels)
        if self.config["num_outputs"] is None:
            share_levels(self.net.to_logits, self.codebook_size, code_levels)

    @property
    def any_grid(self) -> bool:
        """Whether grids of any size can be run, not those of the training only."""
        return self.positions == "rotary"

    def null(self, condition: Tensor) -> Tensor:
        """(batch,) labels that mean none."""
        return torch.full_like(condition, self.num_classes)

    def check_grid(self, height: int, width: int) -> None:
        """ValueError if grids of this size cannot be run."""
        if not self.any_grid and (height, width) != self.grid:
            raise ValueError(
                f"this model knows grids of {self.grid[0]}x{self.grid[1]} cells only, "
                f"not {height}x{width}: it has "
                "learned positions; one trained with model.positions=rotary draws any size"
            )

    @property
    def to_logits(self) -> nn.Module:
        """(..., dim) -> (..., codebook_size)."""
        return self.net.to_logits

    @property
    def gathered_blocks(self) -> list[nn.Module]:
        """Attention and feed-forward layers, which run one after the other, without their norms."""
        return [block.fn for _, block, _ in self.net.attn_layers.layers]

    @property
    def first_layer(self) -> nn.Module:
        """What every cell of every pass goes through first: (batch, cells, dim) -> queries."""
        layer: nn.Module = self.net.attn_layers.layers[0][1].fn.to_q
        return layer

    def _added(self, codes: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(batch, height, width), (batch,) -> the labels' vectors (batch, dim), and what the label
        and the depth add to the input (batch, 1 or cells, dim)."""
        if labels is None:
            labels = codes.new_full((len(codes),), self.num_classes)
        vectors = self.label_embedding(labels)
        extra: Tensor | None = (
            None if self.label_to_input is None else self.label_to_input(vectors)[:, None]
        )
        if self.depth_embedding is not None:
            depths = self.depth_embedding.repeat(codes[0].numel() // self.codes_per_cell, 1)[None]
            extra = depths if extra is None else extra + depths
        return vectors, extra

    def _angles(self, codes: Tensor) -> Tensor | None:
        """Rotary angles (1, cells, dim_head), none with learned positions."""
        if self.positions != "rotary":
            return None
        height, width = codes.shape[1:]
        parts, device = self.codes_per_cell, codes.device
        return rotary_angles(height, width, self.dim_head, codes_per_cell=parts, device=device)

    def inputs(
        self, codes: Tensor, condition: Tensor | None, sum_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The layers' (batch, cells, dim), the norms' (batch, dim), and rotary angles, if any."""
        self.check_grid(*codes.shape[1:])
        vectors, extra = self._added(codes, condition)
        x = self.net.token_emb(codes.flatten(1))
        if self.positions == "learned":
            x = x + self.net.pos_emb(codes.flatten(1))
        for added in (extra, None if sum_embeds is None else sum_embeds.flatten(1, 2)):
            x = x if added is None else x + added
        return x, vectors, self._angles(codes)

    def embed_at(
        self,
        codes: Tensor,
        cells: Tensor,
        condition: Tensor | None = None,
        *,
        sum_embeds: Tensor | None = None,
    ) -> Tensor:
        """What `forward` gives with return_embeddings, at the chosen cells only, and for less work.

        cells: bool (batch, height, width) -> (cells.sum(), dim), in row-major order; or the
        numbers of cells, (n,) int64, which an accelerator need not be asked for -> (n, dim).
        """
        x, vectors, angles = self.inputs(codes, condition, sum_embeds)
        places = places_of(cells) if cells.dtype == torch.bool else cells
        return self.through(x, self.by(vectors), angles, places)

    def by(self, vectors: Tensor) -> Modulation:
        """(batch, dim) -> the factors of all adaptive norms."""
        return modulation(self, vectors)

    def through(
        self,
        x: Tensor,
        by: Modulation,
        angles: Tensor | None,
        places: Tensor,
        keep: Keep | None = None,
    ) -> Tensor:
        """All layers, at these places: (batch, cells, dim), (n,) -> (n, dim); `passes.embed_at`."""
        return embed_at(self, x, by, angles, places, keep)

    @staticmethod
    def rotate(heads: Tensor, angles: Tensor) -> Tensor:
        """Queries or keys (batch, heads, m, dim_head) by their angles (1 or batch, m, dim_head)."""
        return apply_rotary_pos_emb(heads, angles)  # type: ignore[no-any-return]

    def sampling_passes(self, refresh: int) -> Passes:
        """Those of one sampling, over some of the cells only; every `refresh`-th is whole."""
        return Passes(self, refresh)

    def forward(
        self,
        codes: Tensor,
        condition: Tensor | None = None,
        *,
        sum_embeds: Tensor | None = None,
        return_embeddings: bool = False,
    ) -> Tensor:
        """codes: (batch, h, w) -> logits: (batch, h, w, codebook_size), or embeddings.

        ValueError for a grid of another size than the training's, unless positions are rotary.

        condition: (batch,), none meaning "no label" for all; sum_embeds: (batch, height, width,
        dim), added to the input.
        """
        height, width = codes.shape[1:]
        self.check_grid(height, width)
        vectors, extra = self._added(codes, condition)
        if sum_embeds is not None:
            given = sum_embeds.flatten(1, 2)
            extra = given if extra is None else given + extra
        angles = self._angles(codes)
        rotary: Any = {} if angles is None else {"rotary_pos_emb": (angles, 1.0)}
        embeddings = self.net(
            codes.flatten(1), condition=vectors, sum_embeds=extra, return_embeddings=True, **rotary
        )
        embeddings = embeddings.unflatten(1, (height, width))
        return embeddings if return_embeddings else self.to_logits(embeddings)

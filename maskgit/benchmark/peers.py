"""SIDES: our model and what a user would take instead, each as one thing that trains and samples.

A side is a function `(setting, depth) -> Model`, listed with the ways that it can run in. Its width
is that of the size, and its depth is solved for the wanted number of parameters. No side is
compiled; AdamW is fused for all.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import ImageFile
from torch import Tensor, nn

from maskgit.model.backbones import num_parameters
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper

NUM_CODES, NUM_CLASSES = 1024, 10
WIDTHS = {5: 256, 25: 512}  # millions of parameters -> dim; heads are 64 wide


class Shape(NamedTuple):
    """What is measured."""

    cells: int  # a square number
    params: int  # millions, a key of WIDTHS
    batch: int
    rounds: int = 0  # of sampling

    @property
    def side(self) -> int:
        """Cells of a row."""
        return math.isqrt(self.cells)


class Way(NamedTuple):
    """How a side runs."""

    bf16: bool
    flash: bool

    def __str__(self) -> str:
        return f"{'bf16' if self.bf16 else 'fp32'}, {'fused' if self.flash else 'plain'} attention"


class Setting:
    """What a side is built for, and one batch of random grids and labels for it."""

    def __init__(self, shape: Shape, way: Way, device: torch.device) -> None:
        self.shape, self.way, self.device = shape, way, device
        self.dim = WIDTHS[shape.params]
        self.heads = self.dim // 64
        self.codes = torch.randint(NUM_CODES, (shape.batch, shape.side, shape.side), device=device)
        self.labels = torch.randint(NUM_CLASSES, (shape.batch,), device=device)


class Model(NamedTuple):
    """A module, its loss on the setting's batch, and a call that draws as many grids."""

    module: nn.Module
    loss: Callable[[], Tensor]
    sample: Callable[[], object]


def ours(setting: Setting, depth: int) -> Model:
    """maskgit.Transformer with adaptive norms, in maskgit.NonAutoregressiveWrapper."""
    shape, labels = setting.shape, setting.labels
    net = Transformer(
        codebook_size=NUM_CODES, grid=(shape.side, shape.side), num_classes=NUM_CLASSES,
        dim=setting.dim, depth=depth,
        heads=setting.heads, flash=setting.way.flash,
    )  # fmt: skip
    wrapper = NonAutoregressiveWrapper(net, mask_id=NUM_CODES, label_smoothing=0.0)
    return Model(
        wrapper,
        lambda: wrapper(setting.codes, condition=labels).loss,
        # without guidance, as the peers
        lambda: wrapper.generate(condition=labels, steps=shape.rounds),
    )


def _their_net(setting: Setting, depth: int) -> nn.Module:
    """x-transformers' net, without labels, for either wrapper."""
    import x_transformers

    layers = x_transformers.Encoder(
        dim=setting.dim,
        depth=depth,
        heads=setting.heads,
        attn_dim_head=64,
        attn_flash=setting.way.flash,
    )
    return x_transformers.TransformerWrapper(
        num_tokens=NUM_CODES + 1,
        logits_dim=NUM_CODES,
        max_seq_len=setting.shape.cells,
        attn_layers=layers,
    )


def ours_on_their_net(setting: Setting, depth: int) -> Model:
    """maskgit.NonAutoregressiveWrapper around the plain x-transformers net of the next side."""
    wrapper = NonAutoregressiveWrapper(
        _their_net(setting, depth), mask_id=NUM_CODES, label_smoothing=0.0
    )
    return Model(
        wrapper,
        lambda: wrapper(setting.codes.flatten(1)).loss,
        lambda: wrapper.generate(setting.shape.batch, steps=setting.shape.rounds),
    )


def x_transformers_wrapper(setting: Setting, depth: int) -> Model:
    """x_transformers.NonAutoregressiveWrapper, its MDLM flag off: with it losses are negative."""
    import x_transformers

    wrapper: Any = x_transformers.NonAutoregressiveWrapper(
        _their_net(setting, depth),
        mask_id=NUM_CODES,
        steps=max(1, setting.shape.rounds),
        schedule="cosine",
        use_simple_mdlm_loss_weight=False,
        no_replace_prob=0.0,  # as the others: every chosen cell is hidden
        random_token_prob=0.0,
    )
    return Model(
        wrapper,
        lambda: wrapper(setting.codes.flatten(1)).loss,
        # as the others: no code cut off
        lambda: wrapper.generate(batch_size=setting.shape.batch, filter_thres=None),
    )


def muse(setting: Setting, depth: int) -> Model:
    """muse_maskgit_pytorch.MaskGit; a label's text is one fixed vector, at no cost."""
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    from muse_maskgit_pytorch import MaskGit, MaskGitTransformer, VQGanVAE
    from muse_maskgit_pytorch.t5 import T5_CONFIGS

    # its import makes Pillow accept broken images everywhere
    ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    shape, dim, name = setting.shape, setting.dim, "none"
    T5_CONFIGS[name] = {"config": SimpleNamespace(d_model=dim)}
    net = MaskGitTransformer(
        num_tokens=NUM_CODES, seq_len=shape.cells, dim=dim, depth=depth,
        heads=setting.heads, dim_head=64,
        flash=setting.way.flash, t5_name=name,
    )  # fmt: skip
    vae = VQGanVAE(dim=16, layers=1, codebook_size=NUM_CODES, use_vgg_and_gan=False)
    model: Any = MaskGit(image_size=2 * shape.side, transformer=net, vae=vae)
    del model.vae, model.cond_vae  # its decoder is not what is timed, nor counted
    model.vae = SimpleNamespace(
        get_encoded_fmap_size=lambda _: shape.side, decode_from_ids=lambda ids: ids
    )
    text = torch.randn(NUM_CLASSES, 1, dim, device=setting.device)
    net.encode_text = lambda texts: text[[int(t) for t in texts]]
    texts = [str(label) for label in setting.labels.tolist()]

    def sample() -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            model.generate(texts, fmap_size=shape.side, timesteps=shape.rounds, cond_scale=1)

    embeds = text[setting.labels]
    return Model(
        model, lambda: model(setting.codes, text_embeds=embeds, cond_drop_prob=0.1), sample
    )


def amused(setting: Setting, depth: int) -> Model:
    """diffusers' UVit2DModel and AmusedScheduler; the text is one fixed vector for each label."""
    from diffusers import AmusedScheduler, UVit2DModel

    shape, dim = setting.shape, setting.dim
    net: Any = UVit2DModel(
        hidden_size=dim, cond_embed_dim=dim, micro_cond_encode_dim=dim,
        micro_cond_embed_dim=5 * dim,
        encoder_hidden_size=dim, vocab_size=NUM_CODES + 1, codebook_size=NUM_CODES, in_channels=dim,
        block_out_channels=dim, num_res_blocks=1, block_num_heads=setting.heads,
        num_hidden_layers=depth,
        num_attention_heads=setting.heads, intermediate_size=4 * dim, sample_size=shape.side,
    )  # fmt: skip
    text = torch.randn(NUM_CLASSES, 1, dim, device=setting.device)[setting.labels]
    micro = torch.zeros(shape.batch, 5, device=setting.device)

    def logits(codes: Tensor) -> Any:
        return net(codes, encoder_hidden_states=text, pooled_text_emb=text[:, 0], micro_conds=micro)

    # as its training script: all cells through the head, the visible ones ignored
    def loss() -> Tensor:
        share = torch.cos(torch.rand(shape.batch, 1, 1, device=setting.device) * math.pi / 2)
        hidden = torch.rand(setting.codes.shape, device=setting.device) < share.clamp_min(
            1 / shape.cells
        )
        predicted = logits(setting.codes.masked_fill(hidden, NUM_CODES))
        return F.cross_entropy(predicted.float(), setting.codes.masked_fill(~hidden, -100))

    def sample() -> None:  # the loop of its pipeline, without guidance
        scheduler: Any = AmusedScheduler(mask_token_id=NUM_CODES)
        scheduler.set_timesteps(shape.rounds, device=setting.device)
        codes = torch.full_like(setting.codes, NUM_CODES)
        for timestep in scheduler.timesteps:
            codes = scheduler.step(logits(codes), timestep, codes).prev_sample

    return Model(net, loss, sample)


ALL_WAYS = tuple(Way(bf16, flash) for bf16 in (False, True) for flash in (False, True))
FUSED = tuple(way for way in ALL_WAYS if way.flash)
NOT_BF16_AND_FUSED = tuple(way for way in ALL_WAYS if not (way.bf16 and way.flash))


class Entry(NamedTuple):
    """A side and the ways that it can run in."""

    build: Callable[[Setting, int], Model]
    ways: Sequence[Way] = ALL_WAYS
    ways_on_cpu: Sequence[Way] | None = None  # where they are fewer

    def ways_on(self, device: torch.device) -> Sequence[Way]:
        """Those of a device."""
        return self.ways_on_cpu if self.ways_on_cpu and device.type == "cpu" else self.ways


SIDES: dict[str, Entry] = {
    "maskgit": Entry(ours),
    "maskgit on x-transformers' net": Entry(ours_on_their_net),
    "x-transformers": Entry(x_transformers_wrapper),
    # its CPU attention overflows in bf16
    "muse-maskgit-pytorch": Entry(muse, ways_on_cpu=NOT_BF16_AND_FUSED),
    "diffusers aMUSEd": Entry(amused, ways=FUSED),  # it always calls torch's fused attention
}


def depth_for(entry: Entry, setting: Setting) -> int:
    """The depth nearest to the wanted number of parameters; each layer adds the same."""
    one, two = (num_parameters(entry.build(setting, depth).module) for depth in (1, 2))
    return max(1, round((setting.shape.params * 1e6 - one) / (two - one)) + 1)


class Side:
    """A side at a shape and in a way, with its optimiser: what is timed."""

    def __init__(
        self, entry: Entry, shape: Shape, way: Way, device: torch.device, depth: int | None = None
    ) -> None:
        torch.manual_seed(0)
        self.setting, self.way = Setting(shape, way, device), way
        self.depth = depth_for(entry, self.setting) if depth is None else depth
        self.module, self.loss, self.sample = entry.build(self.setting, self.depth)
        self.module.to(device)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-4, fused=True)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.setting.device.type, torch.bfloat16, enabled=self.way.bf16)

    def train_step(self) -> None:
        """Forward, backward, clip, step."""
        self.module.train()
        with self._precision():
            loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def sample_batch(self) -> None:
        """Draw one batch, without gradients."""
        self.module.eval()
        with torch.no_grad(), self._precision():
            self.sample()

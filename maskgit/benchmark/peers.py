"""SIDES: our model and what a user would take instead, each as one thing that trains and samples. All peers are here.

A side is a class `(shape) -> model`. It is built so that its number of parameters is the wanted one: the width is that
of the size, and the depth is solved for. No side is compiled; AdamW is fused for all.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import ImageFile
from torch import Tensor, nn

from maskgit.transformer import Transformer, num_parameters
from maskgit.wrapper import NonAutoregressiveWrapper

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


class Side:
    """A model of about `shape.params` million parameters, with its optimiser."""

    ways: tuple[Way, ...] = tuple(Way(bf16, flash) for bf16 in (False, True) for flash in (False, True))

    def __init__(self, shape: Shape, way: Way, device: torch.device) -> None:
        self.shape, self.way, self.device = shape, way, device
        torch.manual_seed(0)
        self.module = self.build(self._depth()).to(device)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-4, fused=True)
        self.codes = torch.randint(NUM_CODES, (shape.batch, shape.side, shape.side), device=device)
        self.labels = torch.randint(NUM_CLASSES, (shape.batch,), device=device)

    def _depth(self) -> int:
        """The depth that comes nearest to the wanted number of parameters, which grows by the same for each layer."""
        one, two = (num_parameters(self.build(depth)) for depth in (1, 2))
        return max(1, round((self.shape.params * 1e6 - one) / (two - one)) + 1)

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """Autocast to bf16, or nothing."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.way.bf16):
            yield

    def build(self, depth: int) -> nn.Module:
        """The model with so many layers."""
        raise NotImplementedError

    def loss(self) -> Tensor:
        """The training loss of one batch."""
        raise NotImplementedError

    def sample(self) -> None:
        """Draw one batch of grids."""
        raise NotImplementedError

    def train_step(self) -> None:
        """Forward, backward, clip, step."""
        self.module.train()
        with self.precision():
            loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def sample_batch(self) -> None:
        """Draw one batch, without gradients."""
        self.module.eval()
        with torch.no_grad(), self.precision():
            self.sample()


class Ours(Side):
    """maskgit.Transformer, class-conditional by adaptive norms, in maskgit.NonAutoregressiveWrapper."""

    def build(self, depth: int) -> nn.Module:
        """A wrapper around our Transformer."""
        dim, side = WIDTHS[self.shape.params], self.shape.side
        net = Transformer(
            codebook_size=NUM_CODES, grid=(side, side), num_classes=NUM_CLASSES, dim=dim, depth=depth, heads=dim // 64,
            flash=self.way.flash,
        )  # fmt: skip
        return NonAutoregressiveWrapper(net, mask_id=NUM_CODES, label_smoothing=0.0)

    def loss(self) -> Tensor:
        """Masked cross-entropy of labelled grids."""
        return self.module(self.codes, labels=self.labels).loss

    def sample(self) -> None:
        """The confidence sampler, without guidance, as the peers."""
        self.module.generate(labels=self.labels, steps=self.shape.rounds)  # type: ignore[operator]


def _theirs(shape: Shape, way: Way, depth: int) -> nn.Module:
    """x-transformers' net, without labels, for either wrapper."""
    import x_transformers

    dim = WIDTHS[shape.params]
    layers = x_transformers.Encoder(dim=dim, depth=depth, heads=dim // 64, attn_dim_head=64, attn_flash=way.flash)
    return x_transformers.TransformerWrapper(
        num_tokens=NUM_CODES + 1, logits_dim=NUM_CODES, max_seq_len=shape.cells, attn_layers=layers
    )


class OursOnTheirNet(Side):
    """maskgit.NonAutoregressiveWrapper around the plain x-transformers net of the next line."""

    def build(self, depth: int) -> nn.Module:
        """Our wrapper, their net."""
        return NonAutoregressiveWrapper(_theirs(self.shape, self.way, depth), mask_id=NUM_CODES, label_smoothing=0.0)

    def loss(self) -> Tensor:
        """Masked cross-entropy."""
        return self.module(self.codes.flatten(1)).loss

    def sample(self) -> None:
        """The confidence sampler."""
        self.module.generate(self.shape.batch, steps=self.shape.rounds)  # type: ignore[operator]


class XTransformers(Side):
    """x_transformers.NonAutoregressiveWrapper with its MDLM flag off, since with it the loss is negative."""

    def build(self, depth: int) -> nn.Module:
        """Their wrapper, their net."""
        import x_transformers

        return x_transformers.NonAutoregressiveWrapper(
            _theirs(self.shape, self.way, depth),
            mask_id=NUM_CODES,
            steps=max(1, self.shape.rounds),
            schedule="cosine",
            use_simple_mdlm_loss_weight=False,
        )

    def loss(self) -> Tensor:
        """Its own."""
        return self.module(self.codes.flatten(1)).loss

    def sample(self) -> None:
        """Its own."""
        self.module.generate(batch_size=self.shape.batch)  # type: ignore[operator]


class Muse(Side):
    """muse_maskgit_pytorch.MaskGit; the text is one fixed vector for each label, so its text encoder costs nothing."""

    ways = (Way(False, False), Way(False, True), Way(True, False))  # its fused attention overflows in bf16 on a CPU

    def build(self, depth: int) -> nn.Module:
        """Its MaskGit around its transformer."""
        truncated = ImageFile.LOAD_TRUNCATED_IMAGES
        from muse_maskgit_pytorch import MaskGit, MaskGitTransformer, VQGanVAE
        from muse_maskgit_pytorch.t5 import T5_CONFIGS

        ImageFile.LOAD_TRUNCATED_IMAGES = truncated  # its import makes Pillow accept broken images everywhere
        dim, name = WIDTHS[self.shape.params], "none"
        T5_CONFIGS[name] = {"config": SimpleNamespace(d_model=dim)}
        net = MaskGitTransformer(
            num_tokens=NUM_CODES, seq_len=self.shape.cells, dim=dim, depth=depth, heads=dim // 64, dim_head=64,
            flash=self.way.flash, t5_name=name,
        )  # fmt: skip
        vae = VQGanVAE(dim=16, layers=1, codebook_size=NUM_CODES, use_vgg_and_gan=False)
        model = MaskGit(image_size=2 * self.shape.side, transformer=net, vae=vae)
        del model.vae, model.cond_vae  # its decoder is not what is timed, nor counted
        side = self.shape.side
        model.vae = SimpleNamespace(get_encoded_fmap_size=lambda _: side, decode_from_ids=lambda ids: ids)
        self.text = torch.randn(NUM_CLASSES, 1, dim)
        net.encode_text = lambda texts: self.text.to(self.device)[[int(text) for text in texts]]
        return model

    def loss(self) -> Tensor:
        """Its own."""
        return self.module(self.codes, text_embeds=self.text.to(self.device)[self.labels], cond_drop_prob=0.1)

    def sample(self) -> None:
        """Its own, without guidance and without its progress bar."""
        texts = [str(label) for label in self.labels.tolist()]
        with contextlib.redirect_stderr(io.StringIO()):
            self.module.generate(  # type: ignore[operator]
                texts, fmap_size=self.shape.side, timesteps=self.shape.rounds, cond_scale=1
            )


class Amused(Side):
    """diffusers' UVit2DModel and AmusedScheduler; the text is one fixed vector for each label."""

    ways = (Way(False, True), Way(True, True))  # diffusers calls torch's fused attention

    def build(self, depth: int) -> nn.Module:
        """Its transformer with one residual block on either side."""
        from diffusers import UVit2DModel

        dim = WIDTHS[self.shape.params]
        self.text = torch.randn(NUM_CLASSES, 1, dim)
        model: Any = UVit2DModel(
            hidden_size=dim, cond_embed_dim=dim, micro_cond_encode_dim=dim, micro_cond_embed_dim=5 * dim,
            encoder_hidden_size=dim, vocab_size=NUM_CODES + 1, codebook_size=NUM_CODES, in_channels=dim,
            block_out_channels=dim, num_res_blocks=1, block_num_heads=dim // 64, num_hidden_layers=depth,
            num_attention_heads=dim // 64, intermediate_size=4 * dim, sample_size=self.shape.side,
        )  # fmt: skip
        return model  # type: ignore[no-any-return]

    def logits(self, codes: Tensor) -> Tensor:
        """(batch, h, w) -> (batch, codes, h, w)."""
        text = self.text.to(self.device)[self.labels]
        micro = torch.zeros(len(codes), 5, device=self.device)
        return self.module(codes, encoder_hidden_states=text, pooled_text_emb=text[:, 0], micro_conds=micro)

    def loss(self) -> Tensor:
        """As its training script: cosine masking, cross-entropy over all cells with the visible ones ignored."""
        share = torch.cos(torch.rand(self.shape.batch, 1, 1, device=self.device) * math.pi / 2)
        hidden = torch.rand(self.codes.shape, device=self.device) < share.clamp_min(1 / self.shape.cells)
        logits = self.logits(self.codes.masked_fill(hidden, NUM_CODES))
        return F.cross_entropy(logits.float(), self.codes.masked_fill(~hidden, -100))

    def sample(self) -> None:
        """The loop of its pipeline, without guidance."""
        from diffusers import AmusedScheduler

        scheduler: Any = AmusedScheduler(mask_token_id=NUM_CODES)
        scheduler.set_timesteps(self.shape.rounds, device=self.device)
        codes = torch.full_like(self.codes, NUM_CODES)
        for timestep in scheduler.timesteps:
            codes = scheduler.step(self.logits(codes), timestep, codes).prev_sample


SIDES: dict[str, Callable[[Shape, Way, torch.device], Side]] = {
    "maskgit": Ours,
    "maskgit on x-transformers' net": OursOnTheirNet,
    "x-transformers": XTransformers,
    "muse-maskgit-pytorch": Muse,
    "diffusers aMUSEd": Amused,
}

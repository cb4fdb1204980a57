"""The plain pipeline, as a user would write it from the same packages: a peer, not a base.

A small convolutional VQ-VAE with VectorQuantize (settings that do not collapse), L1 + L2;
x-transformers' TransformerWrapper + Encoder with the labels through `embed_num_tokens`; its
NonAutoregressiveWrapper with the MDLM weight off (with it the loss is negative); its own
`generate`; AdamW, a cosine learning rate over the time there is, bf16 autocast where that is
quicker. Mirrored images are a second view where the config of ours says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from tqdm import tqdm

from maskgit.precision import best_precision
from vqgan.files import replacing
from vqgan.quantizers.codebooks import VQ

CODES, CELLS, WIDTH = 512, 49, 64


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PlainVQVAE(nn.Module):
    """Images <-> codes of 512, a quarter of the sides: 28 x 28 <-> 7 x 7."""

    # what vqgan.Tokenizer says of itself
    codebook_size, codes_per_cell, remedy = (CODES, 1, VQ.remedy)

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        from vector_quantize_pytorch import VectorQuantize

        wide = 2 * WIDTH
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 4, 2, 1), nn.ReLU(), nn.Conv2d(WIDTH, wide, 4, 2, 1),
            _Residual(wide), _Residual(wide), nn.ReLU(), nn.Conv2d(wide, WIDTH, 1),
        )  # fmt: skip
        self.quantizer = VectorQuantize(
            dim=WIDTH, codebook_size=CODES, codebook_dim=16, decay=0.95, kmeans_init=True,
            use_cosine_sim=True,
            threshold_ema_dead_code=2, accept_image_fmap=False,
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(WIDTH, wide, 3, padding=1), _Residual(wide), _Residual(wide), nn.ReLU(),
            nn.ConvTranspose2d(wide, WIDTH, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, channels, 4, 2, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, height, width) in [-1, 1] -> (decoded images, the quantizer's loss)."""
        latents = self.encoder(images)
        quantized, _, loss = self.quantizer(latents.flatten(2).transpose(1, 2))
        return self.decoder(quantized.transpose(1, 2).unflatten(2, latents.shape[2:])), loss.sum()

    def loss(self, images: Tensor) -> Tensor:
        """L1, L2 and the quantizer's: (batch, channels, height, width) in [-1, 1] -> scalar."""
        decoded, loss = self(images)
        return F.l1_loss(decoded, images) + F.mse_loss(decoded, images) + loss

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, h, w) int64."""
        latents = self.encoder(images)
        return self.quantizer(latents.flatten(2).transpose(1, 2))[1].unflatten(1, latents.shape[2:])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """(batch, h, w) -> (batch, channels, height, width) in [-1, 1]."""
        latents = self.quantizer.get_output_from_indices(codes.flatten(1))
        return self.decoder(latents.transpose(1, 2).unflatten(2, codes.shape[1:])).clamp(-1, 1)


def train_for(
    amount: float,
    module: nn.Module,
    loss_of: Callable[[], Tensor],
    learning_rate: float,
    title: str,
    *,
    in_steps: bool = False,
    bf16: bool | None = None,
) -> int:
    """AdamW, warm-up and a cosine over `amount` seconds, or steps; gradient norm at most 1.

    bf16: by default where it is quicker, measured before the clock starts. -> the steps it made.
    """
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    device = next(module.parameters()).device
    bf16 = best_precision() == "bf16" if bf16 is None else bf16
    module.train()
    start, steps = time.perf_counter(), 0
    with tqdm(desc=title, unit="step", mininterval=1.0) as bar:
        while (done := (steps if in_steps else time.perf_counter() - start) / amount) < 1:
            rate = (
                learning_rate * min(1.0, (steps + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = loss_of()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            steps += 1
            bar.update()
            if steps % 20 == 0:
                bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    module.eval()
    return steps


class PlainPipeline:
    """Both stages, each trained for some seconds on images (n, 1, 28, 28) uint8, labels (n,).

    flip: whether mirrored images are trained on, too.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        num_classes: int,
        device: torch.device,
        *,
        flip: bool = False,
    ) -> None:
        import x_transformers

        torch.manual_seed(0)
        self.images = images
        self.labels = labels
        self.num_classes = num_classes
        self.device = device
        self.flips = (False, True) if flip else (False,)
        self.vqvae = PlainVQVAE().to(device)
        # fused attention is slower here
        layers = x_transformers.Encoder(dim=192, depth=6, heads=4, attn_dim_head=48)
        net = x_transformers.TransformerWrapper(
            num_tokens=CODES + 1, logits_dim=CODES, max_seq_len=CELLS, attn_layers=layers,
            embed_num_tokens={"labels": num_classes},
        )  # fmt: skip
        self.model: Any = x_transformers.NonAutoregressiveWrapper(
            net, mask_id=CODES, steps=18, schedule="cosine", use_simple_mdlm_loss_weight=False
        ).to(device)

    def _batch(self, size: int) -> Tensor:
        """Random images in [-1, 1], half of them mirrored if that is wanted."""
        images = (
            self.images[torch.randint(len(self.images), (size,))].to(self.device).float() / 127.5
            - 1
        )
        if len(self.flips) == 1:
            return images
        return torch.where(
            torch.rand(size, 1, 1, 1, device=self.device) < 0.5, images.flip(-1), images
        )

    def train_tokenizer(self, seconds: float) -> int:
        """-> the steps made."""

        def loss_of() -> Tensor:
            return self.vqvae.loss(self._batch(64))

        return train_for(seconds, self.vqvae, loss_of, 1e-3, "plain tokenizer")

    def tokenize(self) -> None:
        """Every view of every image, once."""
        views = []
        for flip in self.flips:
            parts = self.images.split(500)
            floats = (
                part.to(self.device).float() / 127.5 - 1
                for part in tqdm(parts, desc="plain tokenise")
            )
            codes = [self.vqvae.encode(x.flip(-1) if flip else x).flatten(1).cpu() for x in floats]
            views.append(torch.cat(codes))
        self.codes = torch.stack(views, 1)

    def train_generator(self, seconds: float) -> int:
        """-> the steps made."""

        def loss_of() -> Tensor:
            rows = torch.randint(len(self.codes), (64,))
            codes = self.codes[rows, torch.randint(len(self.flips), (64,))].long().to(self.device)
            labels = self.labels[rows].to(self.device)
            return self.model(codes, embed_ids=self._ids(labels)).loss

        return train_for(seconds, self.model, loss_of, 1e-3, "plain generator")

    def save(self, path: Path) -> None:
        """The weights of both stages, to a safetensors file."""
        with replacing(path) as aside:
            save_model(self._stages, str(aside))

    def load(self, path: Path) -> None:
        """What `save` wrote."""
        load_model(self._stages, path)
        self._stages.eval()

    @property
    def _stages(self) -> nn.ModuleDict:
        return nn.ModuleDict({"vqvae": self.vqvae, "model": self.model})

    def _ids(self, labels: Tensor) -> dict[str, Tensor]:
        return {"labels": labels[:, None].expand(-1, CELLS)}

    @torch.no_grad()
    def sample(
        self, labels: Tensor, *, start_temperature: float = 1.0, filter_thres: float = 0.7
    ) -> Tensor:
        """labels (n,) -> images (n, 1, 28, 28) in [-1, 1], by `generate` with its defaults."""
        codes = self.model.generate(
            len(labels), start_temperature=start_temperature, filter_thres=filter_thres,
            embed_ids=self._ids(labels.to(self.device)),
        )  # fmt: skip
        return self.vqvae.decode(codes.unflatten(1, (7, 7)))

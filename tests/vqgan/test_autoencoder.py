import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqgan.autoencoder import Decoder, Encoder


@given(
    st.integers(1, 4),
    st.lists(st.sampled_from([4, 8, 12]), min_size=1, max_size=3),
    st.integers(0, 2),
)
@settings(max_examples=15, deadline=None)
def test_decoder_mirrors_encoder(latent_dim, widths, num_blocks):
    shape = {"widths": widths, "num_blocks": num_blocks}
    x = torch.zeros(1, 3, 8, 16)
    latents = Encoder(3, latent_dim, **shape)(x)
    assert latents.shape == (
        1,
        latent_dim,
        8 // 2 ** (len(widths) - 1),
        16 // 2 ** (len(widths) - 1),
    )
    assert Decoder(3, latent_dim, **shape)(latents).shape == x.shape

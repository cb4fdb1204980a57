import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgit.editing.windows import windows


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 999),
)
@settings(max_examples=100, deadline=None)
def test_windows_cover_what_is_hidden(height, width, h, w, seed):
    grid = (min(h, height), min(w, width))
    hidden = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.4
    seen = torch.zeros_like(hidden)
    for rows, columns in windows(hidden, grid):
        part = hidden[rows, columns]
        assert part.shape == grid and (part & ~seen[rows, columns]).any(), (
            "every window has something to fill"
        )
        seen[rows, columns] = True
    assert (seen | ~hidden).all()

import pytest
import torch

from maskgit import precision
from maskgit.benchmark import (
    timing,
)
from tests.benchmark.conftest import CPU


def test_alternating_turns_and_their_ratios():
    order = []
    found = timing.alternate(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, seconds=0, least=3
    )
    assert order == ["a", "b"] * 4 and len(found["a"]) == len(found["b"]) == 3
    spread = timing.ratios({"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 2.0]}, "b")["a"]
    assert spread == (1.0, 0.5, 2.0) and str(spread) == "1 (0.5 to 2)"


def test_operations_and_peak_memory_of_a_matrix_product():
    a = torch.randn(64, 128)
    assert timing.operations(lambda: a @ a.T) == 2 * 64 * 64 * 128
    assert timing.peak_bytes(lambda: [torch.empty(1_000_000) for _ in range(2)]) == pytest.approx(
        8e6, rel=0.01
    )
    assert timing.peak_bytes(
        lambda: [torch.empty(1_000_000).sum() for _ in range(2)]
    ) == pytest.approx(4e6, rel=0.01)
    assert precision.matmul_peak(CPU, torch.float32, 256) > 1e8


def test_operations_count_fused_attention(tiny_sides):
    """The products of two matrices of 16 x 64 for each of 2 images and 1 head, and the same again
    with the values."""
    q = torch.randn(2, 1, 16, 64)
    counted = timing.operations(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert counted == 2 * 2 * (2 * 16 * 16 * 64)

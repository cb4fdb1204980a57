import pytest
import torch

from maskgit.model.rows import MIN_ROWS, RowInvariantLinear


@pytest.mark.parametrize("rows", [1, 2, 5, 7, 8, MIN_ROWS, 40])
def test_rows_of_a_linear_layer_do_not_depend_on_their_number(rows):
    torch.manual_seed(0)
    layer, x = RowInvariantLinear(64, 48).eval(), torch.randn(100, 64)
    with torch.no_grad():
        assert torch.equal(layer(x[:rows]), layer(x)[:rows])

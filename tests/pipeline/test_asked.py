import numpy as np
import pytest
import torch

from maskgit.pipeline.asked import seeds_for, whole_numbers
from tests.conftest import make_pipeline


def test_whole_numbers_of_any_type_are_read():
    given = [1, np.int64(2), torch.tensor(3), True]
    assert whole_numbers(given, 0, 3, "") == [1, 2, 3, 1]
    assert seeds_for(2, None) == [0, 1] and seeds_for(2, range(5, 7)) == [5, 6]


@pytest.mark.parametrize(
    "labels", [["3"], ["coat"], "coat", [0.5], [None], [-1], [4], 9, [[0]], [np.nan]]
)
def test_labels_that_are_no_classes_are_refused(tiny_pipeline, labels):
    with pytest.raises(ValueError, match=r"labels lie in 0 \.\. 2, or 3 for no label"):
        tiny_pipeline.generate(labels)


@pytest.mark.parametrize("options, message", [
    ({"seeds": [-1, 0]}, "seeds lie in"),
    ({"seeds": [0.5, 1]}, "seeds lie in"),
    ({"seeds": [0, 2**63]}, "seeds lie in"),
    ({"seeds": 3}, "2 labels need as many seeds, not 1"),
    ({"seeds": [0, 1, 2], "batch_size": 1}, "2 labels need as many seeds, not 3"),
    ({"batch_size": -1}, "batch_size is 1"),
    ({"batch_size": 0}, "batch_size is 1"),
    ({"batch_size": 1.5}, "batch_size is 1"),
    ({"batch_size": "4"}, "batch_size is 1"),
    ({"negative": "coat", "guidance": 2.0}, "labels lie in"),
    ({"negative": 9, "guidance": 2.0}, "labels lie in"),
    ({"height": -16}, "sides lie in"),
    ({"height": 16.0}, "sides lie in"),
    ({"width": 10**9}, "sides lie in"),
    ({"codes": torch.full((2, 4, 4), 17)}, "codes lie in"),
    ({"codes": torch.full((2, 4, 4), -1)}, "codes lie in"),
    ({"codes": torch.zeros(2, 4, 4)}, "codes are whole numbers"),
    ({"codes": torch.zeros(2, 16, dtype=torch.int64)}, "codes are whole numbers"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused_before_anything_is(tiny_pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        tiny_pipeline.generate([0, 1], **options)


def test_a_canvas_without_end_is_refused():
    with pytest.raises(ValueError, match="codes, 65536 at most"):
        make_pipeline(positions="rotary").generate([0], height=8192, width=8192)

from pathlib import Path

import numpy as np
import pytest
import torch

from maskgit.data.tokenization import tokenize_dataset
from maskgit.editing.requests import Retouch
from maskgit.evaluation.places import Comparison
from maskgit.evaluation.request import Evaluation, TokenizerEvaluation
from maskgit.evaluation.tuning import Search
from maskgit.pipeline.asked import labels_of, seeds_for, whole_numbers
from maskgit.pipeline.drawing import Request
from tests.conftest import make_pipeline


def test_whole_numbers_of_any_type_are_read():
    given = [1, np.int64(2), torch.tensor(3), True]
    assert whole_numbers(given, 0, 3, "") == [1, 2, 3, 1]
    assert seeds_for(2, None) == [0, 1] and seeds_for(2, range(5, 7)) == [5, 6]


@pytest.mark.parametrize("labels", [[0.5], [None], [-1], [4], 9, [[0]], [np.nan]])
def test_labels_that_are_no_classes_are_refused(tiny_pipeline, labels):
    with pytest.raises(ValueError, match=r"labels lie in 0 \.\. 2, or 3 for no label"):
        tiny_pipeline.generate(labels)


@pytest.mark.parametrize("labels", [["3"], ["cot", 1], "cot", [""]])
def test_names_of_no_class_are_refused(tiny_pipeline, labels):
    with pytest.raises(ValueError, match=r"no class .*known: bag, coat, t-shirt"):
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
    ({"negative": "cot", "guidance": 2.0}, "no class .cot., did you mean .coat."),
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


SOME = {"labels": [0], "per_label": 1, "seed": 0, "batch_size": 1, "options": {}}
MADE = {
    "per_label": lambda n: Request(**SOME | {"per_label": n}),
    "batch_size": lambda n: Request(**SOME | {"batch_size": n}),
    "count": lambda n: Evaluation(count=n),
    "batch_size of an evaluation": lambda n: Evaluation(batch_size=n),
    "count of a tokenizer": lambda n: TokenizerEvaluation(Path("run"), count=n),
    "trials": lambda n: Search(Path("run"), trials=n),
    "rounds": lambda n: Comparison(Path("run"), (), [4, n]),
    "number": lambda n: Retouch("inpaint", [], None, 0, n, False),
    "batch_size of codes": lambda n: tokenize_dataset("run", "codes", batch_size=n),
}


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("name", MADE)
def test_requests_of_less_than_one_are_refused_in_python_as_on_the_command_line(name, number):
    with pytest.raises(ValueError, match=rf"{name.split()[0]}.* is 1 or more.* {number}"):
        MADE[name](number)


def test_a_seed_below_zero_is_refused():
    for make in (lambda: Request(**SOME | {"seed": -1}), lambda: Evaluation(seed=-1)):
        with pytest.raises(ValueError, match="seeds lie in"):
            make()


def test_a_canvas_without_end_is_refused():
    with pytest.raises(ValueError, match="codes, 65536 at most"):
        make_pipeline(positions="rotary").generate([0], height=8192, width=8192)


def test_a_net_may_refuse_the_label_for_none():
    def null(labels):
        raise ValueError("no label for none")

    assert labels_of([0, 2], 3, null).tolist() == [0, 2]
    with pytest.raises(ValueError, match="no label for none"):
        labels_of([0, 3], 3, null)

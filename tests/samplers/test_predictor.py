import torch

from maskgit.samplers.predictor import Watched


def test_it_answers_as_the_predictor_and_remembers_what_was_drawn_from(flat_predictor):
    plain = flat_predictor((2, 2), 3)
    watched = Watched(flat_predictor((2, 2), 3))
    codes = torch.full((1, 2, 2), 3)
    assert watched.confidence(codes).isnan().all(), "nothing was asked yet"
    cells = torch.tensor([[[True, True], [False, False]]])
    logits = watched.logits(codes, cells, 0.5)
    assert torch.equal(logits, plain.logits(codes, cells, 0.5))
    codes[0, 0] = torch.tensor([2, 0])
    found = watched.confidence(codes)
    wanted = logits.softmax(-1)
    assert torch.equal(found[0, 0], torch.stack([wanted[0, 2], wanted[1, 0]]))
    assert found[0, 1].isnan().all(), "hidden cells"


def test_a_cell_that_is_asked_again_is_remembered_as_it_was_last(flat_predictor):
    watched = Watched(flat_predictor((1, 1), 3))
    codes, cells = torch.full((1, 1, 1), 3), torch.ones(1, 1, 1, dtype=torch.bool)
    watched.logits(codes, cells, 0.5)
    watched.predictor.table = torch.tensor([[[0.0, 0.0, 9.0]]])
    watched.logits(codes, cells, 1.0)
    assert watched.confidence(torch.full((1, 1, 1), 2)).item() > 0.99

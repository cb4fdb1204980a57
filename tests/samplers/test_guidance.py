import pytest
import torch

from maskgit.samplers.guidance import GUIDANCE_SCHEDULES, Guided


class Net:
    """Logits that say which label they were made with: 10 for the label, 7 for label 2, 1
    without."""

    none, mask_id = 4, 3

    def __init__(self):
        self.batches = []

    def null(self, condition):
        return torch.full_like(condition, self.none)

    def logits_at(self, codes, labels, cells, mix=None):
        self.batches.append(len(codes))
        value = torch.where(labels == self.none, 1.0, torch.where(labels == 2, 7.0, 10.0))[
            :, None, None
        ]
        rows = value.expand(codes.shape)[cells][:, None].expand(-1, 3)
        return rows if mix is None else mix(rows)


def logits(scale, r=1.0, schedule="constant", **options):
    net = Net()
    cells = torch.tensor([[[True, False]], [[True, True]]])
    guided = Guided(net, torch.tensor([0, 1]), scale=scale, schedule=schedule, **options)
    return guided.logits(torch.zeros(2, 1, 2, dtype=torch.int64), cells, r), net.batches


@pytest.mark.parametrize(("scale", "expected"), [(0, 1.0), (2, 19.0), (3.5, 32.5)])
def test_guidance_is_u_plus_s_times_c_minus_u(scale, expected):
    values, batches = logits(scale)
    assert values.shape == (3, 3) and (values == expected).all()
    assert batches == [4], "both halves run as one batch"


def test_no_second_pass_where_the_scale_is_one():
    values, batches = logits(1)
    assert batches == [2] and (values == 10).all()


@pytest.mark.parametrize("name", GUIDANCE_SCHEDULES)
def test_schedules_end_at_the_scale(name):
    assert GUIDANCE_SCHEDULES[name](1.0, 3.0) == pytest.approx(3.0)
    assert GUIDANCE_SCHEDULES[name](0.3, 1.0) == pytest.approx(1.0)


def test_ramps_start_at_one():
    assert GUIDANCE_SCHEDULES["linear"](0, 3.0) == GUIDANCE_SCHEDULES["power_cosine"](0, 3.0) == 1
    assert GUIDANCE_SCHEDULES["power_cosine"](0.5, 3.0) == pytest.approx(2.0)
    assert logits(3, r=0.5, schedule="linear")[0][0, 0] == 19


def test_no_guidance_outside_the_interval():
    assert logits(3, r=0.5, interval=(0.4, 0.8))[1] == [4]
    assert (
        logits(3, r=0.9, interval=(0.4, 0.8))[1] == logits(3, r=0.3, interval=(0.4, 0.8))[1] == [2]
    )


def test_a_schedule_takes_its_options():
    assert logits(3, r=0.5, schedule={"name": "power_cosine", "power": 2.0})[0][0, 0] < 19


def test_a_negative_label_takes_the_place_of_no_label():
    values, batches = logits(2, negative=torch.tensor([3, 3]))
    assert batches == [4] and (values == 10).all(), "both with a label: 10 + 2 (10 - 10)"


@pytest.mark.parametrize(
    ("scale", "share", "expected", "rows"),
    [
        (1, [0.0, 0.25], [10.0, 9.25, 9.25], 4),
        (3, [0.0, 0.25], [28.0, 25.75, 25.75], 6),  # 1 + 3 (10 - 1), and 1 + 3 (9.25 - 1)
        (3, [0.0, 0.0], [28.0] * 3, 4),
        (3, [1.0, 1.0], [19.0] * 3, 4),
    ],
)
def test_a_label_is_mixed_with_another(scale, share, expected, rows):
    other = torch.full((2,), 2)
    values, batches = logits(scale, mixed_with=(other, torch.tensor(share)))
    assert values[:, 0].tolist() == expected
    assert batches == [rows], (
        "all sides run as one batch, what leads away once, and no side that has no share"
    )


def test_a_net_without_a_label_for_none_is_asked_for_it_only_where_it_is_needed():
    class Refusing(Net):
        def null(self, condition):
            raise ValueError("no label for none")

    label, codes = torch.tensor([0]), torch.full((1, 1, 2), 3)
    found = Guided(Refusing(), label, scale=1.0).logits(codes, codes == 3, 0.5)
    assert (found == 10).all() and len(found) == 2
    with pytest.raises(ValueError, match="no label for none"):
        Guided(Refusing(), label, scale=2.0)
    guided = Guided(Refusing(), label, scale=2.0, negative=torch.tensor([2]))
    assert (guided.logits(codes, codes == 3, 0.5) == 13).all(), "7 + 2 (10 - 7)"

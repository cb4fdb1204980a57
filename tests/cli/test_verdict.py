import pytest
import torch

from maskgit.cli.own.verdict import Measured, as_numbers, is_falling, kept, limits, verdict


def measured(**numbers):
    return Measured(**{"psnr": 25.0, "colour": 0.97, "detail": 0.9} | numbers)


@pytest.mark.parametrize(
    ("numbers", "which"),
    [
        ({"fid": 40.0, "rfid": 30.0, "floor": 3.0}, "vqgan"),
        ({"fid": 40.0, "rfid": 5.0, "floor": 3.0}, "maskgit"),
        ({"fid": 5.0, "rfid": 4.0, "floor": 3.0}, "neither"),
        ({}, "unknown"),
        ({"detail": 0.4}, "vqgan"),
        ({"fid": 40.0, "rfid": 5.0, "floor": 3.0, "colour": 0.1}, "vqgan"),
    ],
)
def test_the_stage_that_limits(numbers, which):
    assert limits(measured(**numbers)) == which


def said(found, learning=True):
    minutes = {"vqgan": 4.0, "maskgit": 5.0}
    return " ".join(
        verdict(found, minutes=minutes, folder="my/pics", out="runs/pics", learning=learning)
    )


def test_what_to_do_next_names_a_command_and_its_time():
    mush = said(measured(fid=40.0, rfid=30.0, floor=3.0, num_images=200, colour=0.5, detail=0.3))
    assert (
        "The tokenizer limits" in mush and "loses 50% of the colour and 70% of the detail" in mush
    )
    assert "`maskgit quickstart my/pics --minutes 27 --name longer`" in mush
    slow = said(measured(fid=40.0, rfid=5.0, floor=3.0, agreement=0.8, judge=0.9))
    assert "`maskgit train runs/pics/maskgit.yaml train.minutes=10`" in slow and "5 more" in slow
    weak = said(measured(fid=40.0, rfid=5.0, floor=3.0, agreement=0.1, judge=0.2))
    assert "look at the pictures" in weak and "look at the pictures" not in slow
    assert "80% of the samples" in slow and "keeps 97% of the colour" in slow
    assert "has stopped falling" in said(measured(), learning=False)
    assert "a larger --size" in said(measured(fid=3.0, rfid=2.0, floor=3.0))


def test_colour_and_detail_that_are_lost():
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 16, 16, generator=draws) + torch.tensor([0.5, 0, -0.5]).view(3, 1, 1)
    assert kept(images, images) == pytest.approx((1, 1))
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert kept(images, grey)[0] == pytest.approx(0, abs=1e-6)
    flat = images.mean((2, 3), keepdim=True).expand_as(images)
    assert kept(images, flat)[1] < 0.05 and kept(images, flat)[0] > 0.9
    noise = flat + torch.rand(images.shape, generator=draws)
    assert kept(images, noise)[1] < 0.2, "detail that is not the image's own is none"
    assert kept(flat, flat)[1] == kept(grey, images)[0] == 1.0, "of nothing none is lost"


def test_a_loss_that_falls():
    assert is_falling([9, 8, 7, 6, 5, 4]) and not is_falling([9, 5, 4, 4, 4, 4.1])
    assert not is_falling([]) and not is_falling([3])


def test_numbers_that_were_not_measured_are_left_out():
    assert {*as_numbers(measured())} == {"psnr", "colour", "detail", "num_images"}

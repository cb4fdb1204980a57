import os
import signal

import pytest
import torch

from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.pipeline.drawing import class_grid
from maskgit.pipeline.pipeline import CELL_BYTES, Pipeline
from maskgit.samplers import SAMPLERS
from maskgit.stopping import Stopped, listening
from tests.conftest import make_pipeline
from tests.pipeline.conftest import LABELS, SEEDS
from vqgan import chunks
from vqgan.tokenizer import Tokenizer


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_an_image_is_bit_identical_whatever_the_batch(tiny_pipeline, batch_size, guidance):
    whole = torch.stack(list(tiny_pipeline.stream(LABELS, SEEDS, batch_size=9, guidance=guidance)))
    parts = torch.stack(
        list(tiny_pipeline.stream(LABELS, SEEDS, batch_size=batch_size, guidance=guidance))
    )
    assert torch.equal(whole, parts)
    assert len(torch.unique(whole, dim=0)) > 6, "and the images are different ones"


def test_so_it_is_at_the_sizes_of_the_mnist_config():
    """Its convolutions take other paths than tiny ones, by batch size and place in the batch."""
    torch.manual_seed(0)
    shape = {"widths": [48, 96], "num_blocks": 1, "patch_size": 2}
    tokenizer = Tokenizer(
        image_size=28, channels=1, **shape, quantizer={"name": "fsq", "levels": [8, 6, 5]}
    )
    net = Transformer(
        codebook_size=240, grid=(7, 7), num_classes=10, dim=128, depth=2, heads=4, dim_head=32
    )
    model = NonAutoregressiveWrapper(net, mask_id=240)
    pipeline = Pipeline(
        model, tokenizer, [str(i) for i in range(10)], sampler={"name": "confidence", "steps": 3}
    )
    labels, seeds = [i % 10 for i in range(33)], list(range(33))
    whole = torch.stack(list(pipeline.stream(labels, seeds, batch_size=33, guidance=2.0)))
    for batch_size in (1, 8, 32):
        parts = torch.stack(
            list(pipeline.stream(labels, seeds, batch_size=batch_size, guidance=2.0))
        )
        assert torch.equal(whole, parts), batch_size
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):  # as of one process, or of several that share the cores
            torch.set_num_threads(count)
            parts = torch.stack(list(pipeline.stream(labels, seeds, batch_size=33, guidance=2.0)))
            assert torch.equal(whole, parts), f"{count} threads"
    finally:
        torch.set_num_threads(threads)


def test_so_it_is_in_bf16():
    pipeline = make_pipeline().to(precision="bf16")
    assert pipeline.precision == "bf16"
    whole = torch.stack(list(pipeline.stream(LABELS, SEEDS, batch_size=9, guidance=2.0)))
    for batch_size in (1, 2, 5, 8):
        assert torch.equal(
            whole,
            torch.stack(list(pipeline.stream(LABELS, SEEDS, batch_size=batch_size, guidance=2.0))),
        )
    exact = torch.stack(list(make_pipeline().stream(LABELS, SEEDS, guidance=2.0)))
    assert not torch.equal(whole, exact)
    with pytest.raises(ValueError, match="unknown precision 'fp16'"):
        pipeline.to(precision="fp16")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if "critic" not in name])
def test_images_of_any_size_with_rotary_positions(sampler):
    pipeline = make_pipeline(positions="rotary")
    images = torch.stack(
        list(pipeline.stream([0, 1], [0, 1], height=24, width=40, sampler=sampler))
    )
    assert images.shape == (2, 1, 24, 40)
    alone = torch.stack(list(pipeline.stream([1], [1], height=24, width=40, sampler=sampler)))
    assert torch.equal(images[1:], alone)


def test_another_size_is_refused_where_the_positions_are_learned(tiny_pipeline):
    for height, width in ((24, 40), (25, 39)):
        with pytest.raises(ValueError, match="draws 16x16 pixels only"):
            tiny_pipeline.generate([0], height=height, width=width)
    with pytest.raises(ValueError, match="grids of 4x4 cells only, not 6x10"):
        list(tiny_pipeline.rounds([0], codes=torch.full((1, 6, 10), 16)))
    with pytest.raises(ValueError, match="the nearest size that does is 24x40"):
        make_pipeline(positions="rotary").generate([0], height=25, width=39)


def test_a_negative_label_leads_away(tiny_pipeline):
    plain, away = (
        list(tiny_pipeline.rounds([0], [0], guidance=4.0, negative=n))[-1] for n in (None, 2)
    )
    assert not torch.equal(plain, away)


def test_the_logits_are_bit_identical_whatever_the_batch(tiny_pipeline):
    net, codes = tiny_pipeline.net, torch.randint(17, (9, 4, 4))
    labels = torch.tensor(LABELS)
    with torch.no_grad():
        whole = net(codes, labels)
        assert all(
            torch.equal(net(codes[i : i + n], labels[i : i + n]), whole[i : i + n])
            for n in (1, 2, 4, 7)
            for i in (0, 2)
        )


def test_labels_are_numbers_ranges_or_names(tiny_pipeline):
    assert tiny_pipeline.parse_labels("0-2") == [0, 1, 2]
    assert tiny_pipeline.parse_labels("2, t-shirt,bag") == [2, 1, 0]
    with pytest.raises(ValueError, match="no class 'cot', did you mean 'coat'"):
        tiny_pipeline.parse_labels("cot")
    with pytest.raises(ValueError, match="no class '3'"):
        tiny_pipeline.parse_labels("0-3")
    with pytest.raises(ValueError, match="no labels given"):
        tiny_pipeline.parse_labels(",")


def test_names_do_in_python_as_numbers_do(tiny_pipeline):
    by_name = {"labels": ["coat", 0], "negative": "bag", "mixed_with": [("bag", 0.5), (1, 0.25)]}
    by_number = {"labels": [2, 0], "negative": 0, "mixed_with": [(0, 0.5), (1, 0.25)]}
    found, wanted = (
        torch.stack(list(tiny_pipeline.stream(**words, guidance=2.0)))
        for words in (by_name, by_number)
    )
    assert torch.equal(found, wanted)


def test_wrong_labels_and_seeds_are_refused(tiny_pipeline):
    with pytest.raises(ValueError, match=r"labels lie in 0 \.\. 2, or 3 for no label"):
        tiny_pipeline.generate([4])
    with pytest.raises(ValueError, match="2 labels need as many seeds, not 1"):
        list(tiny_pipeline.rounds([0, 1], [5]))


def test_pictures_have_a_row_for_each_label(tiny_pipeline):
    grid = class_grid(tiny_pipeline, [0, 2], 3)
    cell = 16 * 4 + 4  # enlarged to at least 56 pixels, and a gap
    assert grid.height == 2 * cell + 4 and grid.width > 3 * cell + 4


def test_half_as_many_images_where_memory_runs_out_are_the_same(tiny_pipeline, monkeypatch, capfd):
    """In a sampling, or while it is decoded; image i depends on seed i only."""
    asked = {"mixed_with": [(label, 0.5) for label in LABELS], "guidance": 2.0}
    asked["codes"] = torch.full((9, 4, 4), 16).tril(2)
    whole = torch.stack(list(tiny_pipeline.stream(LABELS, SEEDS, **asked)))
    rounds, sizes = tiny_pipeline.rounds, []

    def short_of_memory(labels, seeds, **options):
        sizes.append(len(seeds))
        for number, codes in enumerate(rounds(labels, seeds, **options)):
            if len(seeds) > 2 and number == 1:
                raise torch.OutOfMemoryError
            yield codes

    monkeypatch.setattr(tiny_pipeline, "rounds", short_of_memory)
    halved = torch.stack(list(tiny_pipeline.stream(LABELS, SEEDS, **asked)))
    assert torch.equal(whole, halved) and sizes == [9, 4, 2, 2, 2, 2, 1]
    assert "out of memory: 2 images at a time" in capfd.readouterr().err


def test_a_batch_is_planned_by_what_an_accelerator_has_left(tiny_pipeline, monkeypatch):
    assert (tiny_pipeline.at_once(), tiny_pipeline.at_once(7)) == (100, 7)
    monkeypatch.setattr(chunks, "free_memory", lambda device: 16 * CELL_BYTES * 10)
    assert [tiny_pipeline.at_once(n) for n in (None, 3)] == [8, 3]
    assert tiny_pipeline.at_once(None, (8, 8)) == 2


@pytest.mark.usefixtures("heard")
def test_a_signal_ends_a_stream_of_images_but_not_the_rounds_of_a_step(tiny_pipeline):
    with listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(list(tiny_pipeline.rounds([0], [0], steps=3))) == 3
        with pytest.raises(Stopped):
            list(tiny_pipeline.stream([0], [0]))

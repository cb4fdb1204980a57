import inspect

import numpy as np
import pytest
import torch

from maskgit.data.pixels import to_pil
from maskgit.pipeline.called import seeds_of


def seeded(seed=33):
    return torch.Generator().manual_seed(seed)


def test_it_takes_what_the_class_conditional_pipeline_of_diffusers_takes(tiny_pipeline):
    from diffusers import DiTPipeline

    theirs = inspect.signature(DiTPipeline.__call__).parameters
    ours = inspect.signature(tiny_pipeline.__call__).parameters
    assert [name for name in theirs if name != "self"] == list(ours)[: len(theirs) - 1]


def test_images_are_those_of_generate(tiny_pipeline):
    words = {"num_inference_steps": 3, "guidance_scale": 2.0, "generator": seeded()}
    found = tiny_pipeline(class_labels=["coat", 0], **words)
    wanted = tiny_pipeline.generate([2, 0], seeds_of(seeded(), 2), steps=3, guidance=2.0)
    assert [im.tobytes() for im in found.images] == [im.tobytes() for im in wanted]
    assert found[0] is found.images and not isinstance(found.images, torch.Tensor)


def test_the_seed_of_a_generator_decides_and_a_used_one_goes_on(tiny_pipeline):
    generator = seeded()
    first, second = (tiny_pipeline(1, generator=generator, output_type="np") for _ in range(2))
    again = tiny_pipeline(1, generator=seeded(), output_type="np")
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, second.images)
    many = [seeded(5), seeded(), seeded(6)]
    by_list = tiny_pipeline([1, 1, 1], generator=many, output_type="np")
    assert np.array_equal(by_list.images[1:2], first.images)


def test_without_a_generator_it_is_torchs_own(tiny_pipeline):
    torch.manual_seed(4)
    found = tiny_pipeline([0, 1], output_type="pt").images
    assert torch.equal(found, tiny_pipeline([0, 1], generator=seeded(4), output_type="pt").images)


def test_the_outputs_hold_the_same_pixels(tiny_pipeline):
    pil, arrays, tensors = (
        tiny_pipeline(torch.tensor([0, 1, 2]), generator=seeded(), output_type=kind).images
        for kind in ("pil", "np", "pt")
    )
    assert arrays.shape == (3, 16, 16, 1) and arrays.dtype == np.float32
    assert tensors.shape == (3, 1, 16, 16) and tensors.min() >= 0 and tensors.max() <= 1
    assert np.array_equal(arrays, tensors.permute(0, 2, 3, 1).numpy())
    for image, pixels in zip(pil, tensors, strict=True):
        assert np.array_equal(np.asarray(to_pil(pixels * 2 - 1)), np.asarray(image))


def test_our_own_options_are_taken_too(tiny_pipeline):
    words = {"generator": seeded(), "output_type": "np"}
    plain = tiny_pipeline(0, **words).images
    words["generator"] = seeded()
    other = tiny_pipeline(0, **words, sampler="halton", batch_size=1, return_dict=False)[0]
    assert plain.shape == other.shape and not np.array_equal(plain, other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"class_labels": 0, "prompt": "a coat"}, "has no option 'prompt'"),
        ({"class_labels": 0, "output_type": "pill"}, "did you mean 'pil'"),
        ({"class_labels": [7]}, "labels lie in 0 .. 2"),
        ({"class_labels": []}, "no class_labels given"),
        ({"class_labels": "cot"}, "did you mean 'coat'"),
        ({"class_labels": 0, "num_inference_steps": 0}, "steps"),
        ({"class_labels": 0, "num_inference_steps": 3, "steps": 4}, "steps is given twice"),
        ({"class_labels": 0, "generator": 33}, "generator is a torch.Generator"),
        ({"class_labels": [0, 1], "generator": [seeded()]}, "or a list of 2"),
        ({"class_labels": [0], "generator": [33]}, "each generator of the list"),
    ],
)
def test_what_it_does_not_know_is_one_line(tiny_pipeline, words, message):
    with pytest.raises(ValueError) as error:
        tiny_pipeline(**words)
    assert message in str(error.value) and "\n" not in str(error.value)

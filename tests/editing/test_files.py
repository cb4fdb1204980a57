import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.config.sections import DataConfig
from maskgit.data.datasets import transform_of
from maskgit.editing.files import mask_of, picture_of


@pytest.fixture
def contained(tiny_pipeline):
    """A model of grey 16 x 16 images that were put whole on grey."""
    data = DataConfig(image_size=16, channels=1, resize="contain", background="grey")
    kept = dataclasses.asdict(transform_of(data))
    tiny_pipeline.data = {
        "source": "mnist5k",
        **{key: value for key, value in kept.items() if value is not None},
    }
    return tiny_pipeline


def test_a_picture_is_cut_as_the_model_s_own_were(contained, tmp_path):
    Image.new("L", (32, 16), 255).save(tmp_path / "wide.png")
    image, label = picture_of(contained, str(tmp_path / "wide.png"), True)
    assert label is None and image.shape == (1, 16, 16)
    assert (image[0, 4:12] == 255).all() and (image[0, :4] == 128).all()
    contained.data = {}
    assert (picture_of(contained, str(tmp_path / "wide.png"), True)[0] == 255).all(), "cut"


def test_a_mask_is_cut_as_its_image_and_hides_nothing_beside_it(contained, tmp_path):
    Image.new("L", (32, 16)).save(tmp_path / "wide.png")
    half = np.zeros((16, 32), dtype=np.uint8)
    half[:, 16:] = 255
    Image.fromarray(half).save(tmp_path / "mask.png")
    names = [str(tmp_path / "wide.png")]
    mask = mask_of(contained, str(tmp_path / "mask.png"), names, True)
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[4:12, 8:] = True
    assert torch.equal(mask, wanted)
    Image.new("L", (16, 16)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="a mask is of the size of its image"):
        mask_of(contained, str(tmp_path / "mask.png"), [str(tmp_path / "other.png")], True)


def test_transparent_pixels_lie_on_the_model_s_background(contained, tmp_path, capsys):
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    image, _ = picture_of(contained, str(tmp_path / "clear.png"), False)
    assert (image == 128).all() and "edited as an 8-bit grey image" in capsys.readouterr().err

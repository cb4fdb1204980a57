import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.config.sections import DataConfig
from maskgit.data.npz import npz_arrays, write_npz
from maskgit.data.order import chunks_of
from maskgit.data.pixels import to_uint8
from maskgit.evaluation.image_sets import (
    chosen_blocks,
    fingerprint,
    from_folder,
    from_npz,
    from_pipeline,
    from_source,
    reconstructions,
    shared_out,
    some_of,
)


def pixels(images, size=3):
    return torch.cat(list(images.read(chunks_of(images.num_images, size))))


@pytest.fixture
def rgb():
    return torch.randint(
        256, (7, 3, 6, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_what_is_written_as_npz_is_what_adm_and_we_read(tmp_path, rgb):
    path = write_npz(tmp_path / "s.npz", rgb.split(3), tuple(rgb.shape), list(range(7)))
    with np.load(path, allow_pickle=False) as file:
        assert (
            np.array_equal(file["arr_0"], rgb.movedim(1, -1).numpy())
            and file["arr_0"].dtype == np.uint8
        )
        assert np.array_equal(file["arr_1"], np.arange(7))
    found = from_npz(path)
    assert found.num_images == 7 and found.labels.tolist() == list(range(7))
    assert torch.equal(pixels(found), rgb)
    assert torch.equal(torch.cat(list(found.read([range(5, 7), range(1, 2)]))), rgb[[5, 6, 1]])


def test_a_compressed_npz_of_numpy_is_read_too(tmp_path, rgb):
    np.savez_compressed(tmp_path / "s.npz", rgb.movedim(1, -1).contiguous().numpy())
    assert torch.equal(pixels(from_npz(tmp_path / "s.npz")), rgb)


def test_grey_is_repeated_when_written_and_comes_back(tmp_path, rgb):
    grey = rgb[:, :1]
    path = write_npz(tmp_path / "s.npz", [grey], tuple(grey.shape), [0] * 7)
    assert npz_arrays(path)["arr_0"] == (7, 6, 4, 3)
    assert torch.equal(pixels(from_npz(path, channels=1)), grey)


def test_alpha_is_written_and_comes_back_or_lies_on_white(tmp_path, rgb):
    alpha = torch.tensor([0, 90, 255], dtype=torch.uint8)[torch.arange(7) % 3]
    alpha = alpha[:, None, None, None].expand(7, 1, 6, 4)
    images = torch.cat((torch.minimum(rgb, alpha), alpha), 1)
    path = write_npz(tmp_path / "s.npz", images.split(3), tuple(images.shape), [0] * 7)
    assert npz_arrays(path)["arr_0"] == (7, 6, 4, 4)
    assert torch.equal(pixels(from_npz(path, channels=4)), images)
    on_white = pixels(from_npz(path))
    assert torch.equal(on_white[2], rgb[2]) and (on_white[0] == 255).all()
    assert pixels(from_npz(path, channels=1)).shape == (7, 1, 6, 4)
    opaque = write_npz(tmp_path / "o.npz", [rgb], tuple(rgb.shape), [0] * 7)
    found = pixels(from_npz(opaque, channels=4))
    assert torch.equal(found[:, :3], rgb) and (found[:, 3] == 255).all()


@pytest.mark.parametrize("broken, message", [
    ({"arr_0": np.zeros((2, 3), np.uint8)}, "arr_0 should be"),
    ({"other": np.zeros((2, 4, 4, 3), np.uint8)}, "missing"),
    ({"arr_0": np.zeros((2, 4, 4, 3))}, "should be uint8"),
    ({"arr_0": np.array([None], dtype=object)}, "Python objects"),
])  # fmt: skip
def test_a_foreign_npz_is_refused(tmp_path, broken, message):
    np.savez(tmp_path / "s.npz", **broken)
    with pytest.raises(ValueError, match=message):
        pixels(from_npz(tmp_path / "s.npz"))


def test_what_is_no_npz_is_refused(tmp_path):
    (tmp_path / "s.npz").write_text("no")
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        from_npz(tmp_path / "s.npz")


def test_a_folder_of_another_program(image_folder):
    found = from_folder(image_folder / "val", channels=1, class_names=("bag", "coat"))
    assert found.num_images == 8 and found.labels.tolist() == [0] * 4 + [1] * 4
    assert pixels(found).shape == (8, 1, 16, 16)
    assert from_folder(image_folder / "val", channels=3).labels is None
    Image.new("L", (5, 5)).save(image_folder / "val" / "coat" / "z.png")
    with pytest.raises(ValueError, match=r"z.png is 5x5, .* is 16x16"):
        pixels(from_folder(image_folder / "val", channels=1))
    with pytest.raises(FileNotFoundError, match="no images in"):
        from_folder(image_folder / "nowhere", channels=1)


def test_samples_depend_on_their_own_number_only(tiny_pipeline):
    samples = from_pipeline(tiny_pipeline, 7, seed=3, options={"steps": 2, "guidance": 1.5})
    assert samples.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(pixels(samples, 7), pixels(samples, 2))
    direct = tiny_pipeline.stream([1], [4], steps=2, guidance=1.5)
    assert torch.equal(pixels(samples)[1], to_uint8(next(direct)))
    assert samples.about["sampler"]["steps"] == 2 and samples.about["guidance"]["scale"] == 1.5


def test_a_source_and_its_reconstructions(image_folder, tiny_pipeline):
    data = DataConfig(
        source={"name": "folder", "root": str(image_folder)}, image_size=16, channels=1
    )
    found = from_source(data, "train", 5)
    assert found.num_images == 5 and found.labels.tolist() == [0, 0, 0, 1, 1]
    decoded = reconstructions(tiny_pipeline.tokenizer, found)
    assert pixels(decoded).shape == pixels(found).shape == (5, 1, 16, 16)
    assert "reconstructions" in decoded.about["set"]


def test_one_process_is_shared_out_everything(image_folder):
    images = from_folder(image_folder / "val", channels=1)
    found = list(shared_out(images, 3))
    assert [share.numbers for share in found] == [range(3), range(3, 6), range(6, 8)]
    assert torch.equal(torch.cat([share.pixels for share in found]), pixels(images))
    assert images.shape() == (1, 16, 16) and images.counted()["count"] == 8


@pytest.mark.parametrize("order", ["sorted", "in turn"])
@pytest.mark.parametrize(
    "count, most", [(1000, 200), (1013, 200), (207, 199), (210, 195), (60, 41)]
)
def test_some_of_a_set_have_the_labels_of_all(order, count, most):
    """As many as are wanted, each once, and no class much more often than in the whole."""
    blocks = chosen_blocks(count, most, 8)
    chosen = [number for block in blocks for number in block]
    assert len(set(chosen)) == len(chosen) == most and max(chosen) < count
    assert blocks == chosen_blocks(count, most, 8)
    labels = np.arange(count) * 4 // count if order == "sorted" else np.arange(count) % 4
    shares = np.bincount(labels[chosen], minlength=4) / most
    assert shares == pytest.approx(np.full(4, 0.25), abs=20 / most)


def test_some_of_a_set_are_its_images(image_folder):
    images = from_folder(image_folder / "train", channels=1)
    assert some_of(images, 50, 5).equal(pixels(images))
    assert some_of(images, 21, 5).shape == (21, 1, 16, 16)


def test_the_fingerprint_sees_pixels_and_labels(image_folder):
    def of_folder():
        return fingerprint(
            from_folder(image_folder / "val", channels=1, class_names=("bag", "coat"))
        )

    before = of_folder()
    assert of_folder() == before
    Image.new("L", (16, 16)).save(image_folder / "val" / "coat" / "00.png")
    assert of_folder() != before

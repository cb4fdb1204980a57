import io
import zipfile

import numpy as np
import pytest
import torch

from maskgit.data.npz import npz_arrays, read_npz, write_npz


def test_what_is_written_is_adm_s_file(tmp_path):
    """arr_0 (n, height, width, 3) uint8, grey repeated, and arr_1, the labels; in several batches."""
    images = torch.randint(256, (5, 1, 4, 6), dtype=torch.uint8)
    path = write_npz(tmp_path / "a.npz", images.split(2), tuple(images.shape), [0, 1, 2, 0, 1])
    assert npz_arrays(path) == {"arr_0": (5, 4, 6, 3), "arr_1": (5,)}
    with np.load(path, allow_pickle=False) as arrays:
        assert (arrays["arr_0"] == images.movedim(1, -1).expand(-1, -1, -1, 3).numpy()).all()
        assert arrays["arr_1"].tolist() == [0, 1, 2, 0, 1]


def test_a_foreign_file_is_refused_unread(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match="is not an .npz file"):
        npz_arrays(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", arr_0=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="holds Python objects"):
        npz_arrays(tmp_path / "objects.npz")
    with zipfile.ZipFile(tmp_path / "bytes.npz", "w") as archive:
        archive.writestr("arr_0.npy", b"nothing")
    with pytest.raises(ValueError, match=r"is not a \.npy array"):
        npz_arrays(tmp_path / "bytes.npz")


def archive(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return path


def npy(shape, body):
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + body


@pytest.mark.parametrize("entries, message", [
    ([("arr_0.npy", npy((2**62, 8, 8, 3), bytes(10)))], "has 138 bytes, by its shape"),
    ([("arr_0.npy", npy((1,), bytes(10)))], "has 138 bytes, by its shape 129"),
    ([("arr_0.npy", npy((9000, 9000), bytes(81_000_000)))], "unpacks .* bytes to 81000128"),
    ([("arr_0", npy((1,), bytes(1)))], r"no array of its own .*no \.npy"),
])  # fmt: skip
def test_an_array_has_the_bytes_of_its_shape_and_is_no_bomb(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        npz_arrays(archive(tmp_path / "x.npz", *entries))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(tmp_path):
    twice = [("arr_0.npy", npy((1,), bytes(1)))] * 2
    with pytest.raises(ValueError, match="a name twice"):
        npz_arrays(archive(tmp_path / "x.npz", *twice))


def test_damage_inside_a_compressed_array_is_told_in_a_line(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as made:
        made.writestr("arr_0.npy", npy((999,), bytes(range(9)) * 111))
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not an \.npz file that can be read"):
        npz_arrays(path)


def test_all_arrays_are_read_or_none(tmp_path):
    path, wanted = tmp_path / "x.npz", {"a": np.full((2, 3), 12345), "b": np.zeros(0)}
    np.savez(path, **wanted)
    found = read_npz(path)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    path.write_bytes(path.read_bytes().replace(b"\x39\x30", b"\x38\x30"))
    with pytest.raises(ValueError, match="Bad CRC-32 for file 'a.npy'"):
        read_npz(path)

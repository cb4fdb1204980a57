import zipfile

import numpy as np
import pytest
import torch

from maskgit.data.npz import npz_arrays, write_npz


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

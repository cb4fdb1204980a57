import json

import pytest

from maskgit.data.manifest import DamagedError, read_manifest, read_sealed, write_sealed
from tests.conftest import repo


def test_what_was_sealed_is_read(tmp_path):
    values = {"a": [1, 2.5, None], "files": "\udcff", "b": {"c": True}}
    write_sealed(tmp_path / "x.json", values)
    assert read_sealed(tmp_path / "x.json") == values


def test_no_flipped_bit_changes_a_value(tmp_path):
    """But for spaces between values, which mean nothing."""
    values = {"a": 1, "sha256": {"x": "0"}}
    path = tmp_path / "x.json"
    write_sealed(path, values)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                assert read_sealed(path) == values
            except DamagedError as error:
                assert str(path) in str(error)


def test_version_0_1_had_no_seal(tmp_path):
    manifest = read_manifest(repo() / "tests" / "golden" / "0.1" / "codes")
    assert manifest["class_names"] == ["bag", "coat"]
    del manifest["splits"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedError, match=r"damaged \(splits: missing\).*`maskgit tokenize"):
        read_manifest(tmp_path)

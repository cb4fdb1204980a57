import pytest

from maskgit.cli.own import expected
from maskgit.cli.own.expected import expected_curves, is_normal, own_curves, references

ROWS = {
    "vqgan": [{"step": 5, "psnr": 10.0}, {"step": 7, "loss": 1.0}, {"step": 10, "psnr": 20.0}],
    "maskgit": [{"step": 4, "bits_per_code": 8.0}, {"step": 8, "bits_per_code": 5.0}],
}


def test_own_curves_run_over_the_share_of_the_steps():
    assert own_curves(ROWS, 1024) == {"psnr": [(0.5, 10.0), (1.0, 20.0)], "bits": [(0.5, 0.8), (1.0, 0.5)]}  # fmt: skip
    assert own_curves({}, 1024) == {"psnr": [], "bits": []}


@pytest.mark.parametrize(
    ("psnr", "bits", "words"),
    [(25.0, 0.3, "worse than"), (15.0, 0.6, "better than"), (20.0, 0.5, "within")],
)
def test_ends_beside_those_of_others(monkeypatch, psnr, bits, words):
    one = {"psnr": [[1.0, psnr]], "bits": [[1.0, bits]]}
    monkeypatch.setattr(expected, "references", lambda: {"one": one})
    said = is_normal(ROWS, 1024)
    assert len(said) == 2 and all(words in line for line in said)


def test_there_are_references_and_all_is_drawn_beside_them(tmp_path):
    assert references()
    for curves in references().values():
        for points in curves.values():
            assert points == sorted(points) and 0 < points[-1][0] <= 1.0
    assert expected_curves(ROWS, 1024, tmp_path / "e.png").is_file()
    assert expected_curves({}, 1024, tmp_path / "f.png").is_file()

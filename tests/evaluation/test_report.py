import json
import math

import pytest
from PIL import Image

from maskgit.evaluation.report import Number, Results, left_out_notes, provenance, write_report

ABOUT = {"of": "run", "samples": {"count": 12}, "features": {"sha256": "ab" * 32}}
FID, BITS = Number(8.0, 0.5, 2.0, "lower"), Number(3.0, math.nan, None, "lower")


@pytest.fixture
def results():
    about = ABOUT | {"by class": {"bag": {"shift": 1.0}, "coat": {"shift": 3.0}}}
    notes = left_out_notes({"prdc": "needs 7 images"})
    pictures = {"samples.png": Image.new("L", (8, 8))}
    return Results(about, {"fid": FID, "bits_per_code": BITS}, notes, pictures)


def test_the_table_says_every_number_and_where_all_of_it_lies(results, tmp_path):
    lines = write_report(results, tmp_path).splitlines()
    [fid] = [line for line in lines if line.startswith("fid")]
    assert "7.5 to 8.5" in fid and fid.endswith("lower is better")
    [bits] = [line for line in lines if line.startswith("bits_per_code")]
    assert "too few images" in bits
    assert "furthest class: coat (mean features 3 from real ones, 2 in the middle)" in lines
    assert "left out: prdc: needs 7 images" in lines
    assert {str(path) for path in tmp_path.iterdir()} <= set(lines)


def test_a_hash_is_shown_by_its_first_digits(results, tmp_path):
    text = write_report(results, tmp_path)
    assert "sha256 " + "ab" * 8 in text and "ab" * 9 not in text


def test_the_json_holds_all_numbers_and_none_where_there_is_no_interval(results, tmp_path):
    write_report(results, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found == results.as_json() and found["of"] == "run"
    assert found["numbers"]["fid"] == {"value": 8.0, "half_width": 0.5, "floor": 2.0, "better": "lower"}  # fmt: skip
    assert found["numbers"]["bits_per_code"]["half_width"] is None


def test_the_row_to_paste_has_real_images_below(results, tmp_path):
    write_report(results, tmp_path)
    rows = (tmp_path / "results.md").read_text().splitlines()
    assert rows[0] == "| of | samples | fid | bits_per_code |" and len(rows) == 4
    assert rows[2].startswith("| run | 12 | ") and rows[3].startswith("| real images |")


def test_results_begin_with_what_made_them():
    assert list(provenance("run")) == ["of", "date", "command"]

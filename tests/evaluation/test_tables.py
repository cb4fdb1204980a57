import json
import math

import pytest

from maskgit.evaluation.tables import keep, kept, known, markdown, over_seeds, shown, write_json


def test_a_table_in_markdown():
    assert markdown(["", "FID", "steps"], [["ours", "4 ± 1", 12], ["real images", "", ""]]) == (
        "| | FID | steps |\n|---|---|---|\n| ours | 4 ± 1 | 12 |\n| real images | | |"
    )


def test_a_number_and_half_of_its_interval():
    assert (
        shown(4.16273, 0.1849) == "4.163 ± 0.18"
        and shown(4.16273, 0.1849, digits=3) == "4.16 ± 0.18"
    )
    assert shown(4.16273, None) == shown(4.16273, math.nan) == "4.163", "of too few images"
    assert (
        over_seeds([1.0, 2.0, 6.0]) == "3 ± 2.5"
        and over_seeds([1.5]) == "1.5 ± 0"
        and over_seeds([]) == ""
    )


@pytest.fixture
def work():
    """Counts how often it was done."""

    def done():
        done.times += 1
        return {"fid": float(done.times), "grid": (4, 6), "of": {8: None}}

    done.times = 0
    return done


def test_what_is_made_of_the_same_is_made_once(tmp_path, work):
    path = tmp_path / "folder" / "kept.json"
    first = kept(path, {"count": 10, "grid": (4, 6)}, work)
    assert (
        first
        == kept(path, {"grid": [4, 6], "count": 10}, work)
        == known(path, {"count": 10, "grid": (4, 6)})
    )
    assert first == {"fid": 1.0, "grid": [4, 6], "of": {"8": None}} and work.times == 1
    assert json.loads(path.read_text()) == {
        "made of": {"count": 10, "grid": [4, 6]},
        "found": first,
    }


def test_what_is_made_of_something_else_is_made_anew(tmp_path, work):
    path = tmp_path / "kept.json"
    kept(path, {"count": 10}, work)
    assert (
        known(path, {"count": 20}) is None and known(tmp_path / "other.json", {"count": 10}) is None
    )
    assert kept(path, {"count": 20}, work)["fid"] == 2.0 and known(path, {"count": 10}) is None
    write_json(path, {"vq": 0.1, "fsq": 0.2})  # as version 0.1 wrote it
    assert kept(path, {"count": 20}, work)["fid"] == 3.0


def test_nothing_is_kept_of_a_process_that_has_nothing(tmp_path):
    path = tmp_path / "kept.json"
    assert kept(path, {}, lambda: None) is None and not path.exists()
    assert (
        keep(path, {}, 3)
        == 3
        == kept(path, {}, lambda: pytest.fail("the main process kept it for all"))
    )


def test_work_that_fails_leaves_what_was_there(tmp_path, work):
    path = tmp_path / "kept.json"
    kept(path, {"count": 10}, work)
    with pytest.raises(ZeroDivisionError):
        kept(path, {"count": 20}, lambda: 1 / 0)
    assert known(path, {"count": 10})["fid"] == 1.0

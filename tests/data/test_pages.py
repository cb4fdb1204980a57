"""Against pyarrow, which reads whole columns."""

import os
import pickle
import random
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskgit.data.sources.pages import UnknownLayoutError, scan, thrift, varint

FORMS = {
    "as datasets writes": {"compression": "none", "use_dictionary": False},
    "as the hub's older files": {"compression": "snappy"},
    "second version": {"compression": "zstd", "data_page_version": "2.0"},
    "gzip": {"compression": "gzip", "use_dictionary": False},
    "brotli in small groups": {"compression": "brotli", "row_group_size": 7},
    "small pages": {"compression": "none", "data_page_size": 100, "write_batch_size": 2},
    "a dictionary that overflows": {"dictionary_pagesize_limit": 300, "write_batch_size": 4},
    "old": {"version": "1.0", "compression": "snappy"},
}


def values_of(path, pages, count):
    return [pages.value(path, row) for row in range(count)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("nulls", [0, 0.3, 1])
def test_every_value_is_what_pyarrow_reads(form, nested, nulls, tmp_path):
    draw = random.Random(0)
    values = [os.urandom(draw.choice([0, 1, 30, 400])) for _ in range(60)]
    values = [None if draw.random() < nulls else draw.choice(values) for _ in range(150)]
    column = pa.array([{"path": "x", "bytes": v} if nested else v for v in values])
    if not nested:
        column = column.cast(pa.binary())
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"image": column, "label": range(150)}), path, **FORMS[form])
    if nulls == 1 and nested:
        column = column.cast(pa.struct({"path": pa.string(), "bytes": pa.binary()}))
        pq.write_table(pa.table({"image": column, "label": range(150)}), path, **FORMS[form])
    pages = scan(path, "image.bytes" if nested else "image")
    assert values_of(path, pickle.loads(pickle.dumps(pages)), 150) == values


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=60),
    dictionary=st.booleans(),
    version=st.sampled_from(["1.0", "2.0"]),
    compression=st.sampled_from(["none", "snappy", "gzip", "zstd"]),
    group=st.integers(1, 70),
    optional=st.booleans(),
)
def test_any_values(values, dictionary, version, compression, group, optional, tmp_path):
    if not optional:
        values = [value or b"" for value in values]
    schema = pa.schema([pa.field("image", pa.binary(), nullable=optional)])
    path = tmp_path / "some.parquet"
    pq.write_table(
        pa.table({"image": values}, schema=schema),
        path,
        compression=compression,
        use_dictionary=dictionary,
        data_page_version=version,
        row_group_size=group,
    )
    assert values_of(path, scan(path, "image"), len(values)) == values


@pytest.mark.parametrize(
    ("column", "options"),
    [
        (pa.array([b"1", b"2"]), {"compression": "lz4"}),
        (pa.array([b"1", b"2"]), {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}),
        (pa.array([[b"1"], [b"2"]]), {}),
        (pa.array([1, 2]), {}),
    ],
)
def test_other_layouts_are_left_to_the_library(column, options, tmp_path):
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"image": column}), path, **options)
    name = "image.list.element" if pa.types.is_list(column.type) else "image"
    with pytest.raises(UnknownLayoutError):
        scan(path, name)
    with pytest.raises(UnknownLayoutError, match="no column other"):
        scan(path, "other")


@pytest.mark.parametrize("form", ["as datasets writes", "as the hub's older files"])
def test_a_damaged_file_is_an_error_of_its_kind(form, tmp_path):
    """Whatever byte is other of headers, levels and values; pyarrow reads the file's end."""
    values = [os.urandom(20) for _ in range(40)]
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"image": values}), path, **FORMS[form])
    whole, pages, draw = path.read_bytes(), scan(path, "image"), random.Random(0)
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 8])):
            damaged[draw.randrange(end)] = draw.randrange(256)
        path.write_bytes(damaged)
        for found in (lambda: pages, lambda: scan(path, "image")):
            for row in (0, 20, 39):
                with suppress(ValueError, OSError):
                    found().value(path, row)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged: "):
        pages.value(path, 39)


def test_numbers_of_the_compact_protocol():
    assert varint(memoryview(b"\xac\x02"), 0) == (300, 2)
    header = bytes([0x15, 0x00, 0x15, 0xC8, 0x01, 0x2C, 0x15, 0x04, 0x11, 0x00, 0x00])
    # 1: 0, 2: 100, 4: a struct of 1: 2 and 2: true
    assert thrift(memoryview(header), 0) == ({1: 0, 2: 100, 4: {1: 2, 2: True}}, len(header))
    with pytest.raises(IndexError, match="without an end"):
        varint(memoryview(b"\xff" * 20), 0)

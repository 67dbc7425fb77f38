"""Tables are there whole or not at all."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigraph.errors import UserError
from gigraph.records.files import replacing
from gigraph.records.tables import lineage_of, read, read_groups, write


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    # What a killed writer left is gone with the next one.
    code = "import os, sys; from gigraph.records.files import replacing\n"
    code += "with replacing(sys.argv[1]) as t: t.touch(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(path)])
    assert len(list(tmp_path.iterdir())) == 2 and path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_table_cut_short_is_never_read(tmp_path):
    write(tmp_path / "t.parquet", "rejected", {"path": ["a"] * 99, "reason": ["b"] * 99})
    whole = (tmp_path / "t.parquet").read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "t.parquet").write_bytes(whole[:size])
        with pytest.raises(UserError, match="run snakemake again"):
            read(tmp_path / "t.parquet")
        assert lineage_of(tmp_path / "t.parquet") is None


def test_a_table_without_a_column_is_named(tmp_path):
    write(tmp_path / "t.parquet", "rejected", {"path": ["a"], "reason": ["b"]})
    assert read(tmp_path / "t.parquet", ["reason"]).column_names == ["reason"]
    with pytest.raises(UserError, match=r"t\.parquet has no column label"):
        read(tmp_path / "t.parquet", ["path", "label"])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 100])
def test_rows_come_together_by_what_they_agree_in(tmp_path, rows):
    columns = {"a": ["x", "x", "y", "x", "y", "x"], "b": ["u", "u", "u", "v", "u", "u"], "c": [0, 1, 2, 3, 4, 5]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=rows)
    found = [(key, table.to_pydict()) for key, table in read_groups(tmp_path / "t.parquet", ["a", "b"])]
    assert found == [(("x", "u"), {"c": [0, 1, 5]}), (("y", "u"), {"c": [2, 4]}), (("x", "v"), {"c": [3]})]


def test_groups_of_no_rows_or_no_table(tmp_path):
    pq.write_table(pa.table({"a": pa.array([], pa.string()), "c": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    assert list(read_groups(tmp_path / "t.parquet", ["a"])) == []
    with pytest.raises(UserError, match=r"t\.parquet has no column b"):
        list(read_groups(tmp_path / "t.parquet", ["b"]))
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="run snakemake again"):
        list(read_groups(tmp_path / "t.parquet", ["a"]))
    with pytest.raises(UserError, match="there is no table"):
        list(read_groups(tmp_path / "none.parquet", ["a"]))

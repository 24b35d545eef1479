"""read_lengths, and the bytes that gimbal.balance.tables writes for the command line."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from balance_cases import LENGTHS

from gimbal import UserError
from gimbal.balance import BalancedBatchSampler, pack, read_lengths

SIZES = np.array([[1, 300], [5, 1800], [0, 40]], np.uint32)


@pytest.fixture
def files(tmp_path):
    """The same sizes in each format."""
    (tmp_path / "a.csv").write_text("vision,tokens\n1,300\n5,1800\n0,40\n")
    pa.parquet.write_table(pa.table({"vision": SIZES[:, 0], "tokens": SIZES[:, 1].astype(np.float64)}), tmp_path / "a.parquet")
    np.save(tmp_path / "a.npy", SIZES.astype(np.int64))
    np.savez(tmp_path / "a.npz", vision=SIZES[:, 0], tokens=SIZES[:, 1])
    return tmp_path


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.npz", "a.npy"])
def test_reads_each_format(files, name: str) -> None:
    names = ["vision", "tokens"] if name.endswith("npy") else None
    table = read_lengths(files / name, names=names)
    assert table.names == ["vision", "tokens"] and len(table) == 3
    assert table.sizes.dtype == np.uint32 and np.array_equal(table.sizes, SIZES)
    assert table.pairs is None and table.source_names == ["a"] and table.source_weights == [1] and table.sources.tolist() == [0, 0, 0]
    assert name in table.describe(1)
    assert len(pack(table, {"vision": 6, "tokens": 2200})) == 1
    with pytest.raises(UserError, match=f"{name}.*(line 3|row 2)"):
        pack(table, {"vision": 4, "tokens": 2200})


def test_chooses_streams_and_names_columns(files) -> None:
    assert read_lengths(files / "a.parquet", names=["tokens"]).sizes.tolist() == [[300], [1800], [40]]
    assert np.array_equal(read_lengths(files / "a.csv", names=["tokens", "vision"]).sizes, SIZES[:, ::-1])
    assert read_lengths(files / "a.npy").names == ["stream0", "stream1"]


def test_the_case_of_an_ending_does_not_count(files) -> None:
    for name, other in (("a.npz", "A.NPZ"), ("a.npy", "A.NPY"), ("a.parquet", "A.Parquet"), ("a.npz", "b.npy"), ("a.npy", "b.npz")):
        (files / other).write_bytes((files / name).read_bytes())
        assert np.array_equal(read_lengths(files / other, names=["vision", "tokens"] if "npy" in name else None).sizes, SIZES)


def test_several_files_are_several_sources(files) -> None:
    (files / "b.csv").write_text("tokens,vision\n7,2\n")
    table = read_lengths([files / "a.parquet", files / "b.csv", files / "a.npz"])
    assert table.sizes.tolist() == [*SIZES.tolist(), [2, 7], *SIZES.tolist()]
    assert table.sources.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert table.source_weights == [1, 1, 1] and len(set(table.source_names)) == 3 and table.source_names[1] == "b"
    assert "b.csv line 2" in table.describe(3) and "a.npz row 3" in table.describe(6)
    (files / "c.csv").write_text("vision,tokens,audio\n1,2,3\n")
    with pytest.raises(UserError, match="c.csv: its streams are vision, tokens, audio"):
        read_lengths([files / "a.csv", files / "c.csv"])


def test_pairs_columns(files) -> None:
    pa.parquet.write_table(pa.table({"v": [3, 4], "v.pairs": [5, 2**40], "t": [1, 2]}), files / "p.parquet")
    table = read_lengths(files / "p.parquet")
    assert table.names == ["v", "t"] and table.pairs.tolist() == [[5, 1], [2**40, 4]]
    (files / "p.csv").write_text("v,t\n10,20\n")
    both = read_lengths([files / "p.parquet", files / "p.csv"])
    assert both.pairs.tolist() == [[5, 1], [2**40, 4], [100, 400]]
    pa.parquet.write_table(pa.table({"v": [3], "w.pairs": [5]}), files / "q.parquet")
    with pytest.raises(UserError, match="'w.pairs' is of no stream"):
        read_lengths(files / "q.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.5, 2], "row 1 has 1.5 in column 'n'"),
        ([1, -2], "row 2 has -2 in column 'n'"),
        ([1, 2**32], "row 2 has 4294967296"),
        ([1.0, float("nan")], "row 2 has nan"),
        ([1, None], "row 2 has no value"),
        (["a", "b"], "give whole numbers"),
    ],
)
def test_bad_values_name_file_row_and_column(tmp_path, column, message: str) -> None:
    pa.parquet.write_table(pa.table({"n": column}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=rf"x\.parquet: .*{message}"):
        read_lengths(tmp_path / "x.parquet")


def test_bad_files(tmp_path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    (tmp_path / "x.npy").write_bytes(b"no numpy")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 cut short")
    (tmp_path / "x.csv").write_text("a,b\n1,x\n")
    np.save(tmp_path / "flat.npy", np.arange(3))
    np.save(tmp_path / "two.npy", np.zeros((1, 2), int))
    np.savez(tmp_path / "u.npz", a=np.arange(3), b=np.arange(4))
    np.savez(tmp_path / "square.npz", a=np.zeros((2, 2), int))
    np.savez(tmp_path / "wide.npz", **{f"s{k}": np.arange(2) for k in range(9)})
    for name, message in (
        ("x.parquet", "not readable as Parquet"),
        ("x.npy", "not readable as a numpy file"),
        ("x.npz", "not readable as a numpy file"),
        ("x.csv", "2: column b: found 'x'"),
        ("flat.npy", "1 dimensions"),
        ("u.npz", "unlike length: a 3, b 4"),
        ("square.npz", "'a' has 2 dimensions"),
        ("wide.npz", "9 columns of sizes.*names="),
        ("none.csv", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            read_lengths(tmp_path / name)
    with pytest.raises(UserError, match="has no column 'c'"):
        read_lengths(tmp_path / "u.npz", names=["c"])
    with pytest.raises(UserError, match="2 columns for the 3 streams"):
        read_lengths(tmp_path / "two.npy", names=["a", "b", "c"])
    with pytest.raises(UserError, match="no file was given"):
        read_lengths([])


def tables(*words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "gimbal.balance.tables", *map(str, words)], capture_output=True, timeout=60)


def test_tables_writes_the_binary_form(files) -> None:
    result = tables(files / "a.parquet")
    assert result.returncode == 0, result.stderr
    expected = b"GBTABLE1" + struct.pack("<IQ", 2, 3) + struct.pack("<I", 6) + b"vision" + struct.pack("<I", 6) + b"tokens"
    assert result.stdout == expected + SIZES.astype("<u4").tobytes()
    whole = tables(*LENGTHS)
    assert struct.unpack("<IQ", whole.stdout[8:20]) == (2, 40941) and len(whole.stdout) == 20 + 20 + 8 * 40941
    pa.parquet.write_table(pa.table({"n": pa.array([], pa.int64())}), files / "empty.parquet")
    assert tables(files / "empty.parquet").stdout == b"GBTABLE1" + struct.pack("<IQI", 1, 0, 1) + b"n"


def test_tables_exits_with_2_on_bad_input(files) -> None:
    pa.parquet.write_table(pa.table({"n": [1], "n.pairs": [4]}), files / "pairs.parquet")
    for words, message in (
        ([files / "none.parquet"], b"no such file"),
        ([files / "pairs.parquet"], b"give a CSV file"),
        ([], b"usage"),
    ):
        result = tables(*words)
        assert result.returncode == 2 and result.stdout == b"" and message in result.stderr
    assert tables("--help").returncode == 0


def test_a_dataset_folder_keeps_its_weights(tmp_path) -> None:
    pytest.importorskip("tokenizers")
    from gimbal.demo.model_folder import make_model_folder
    from gimbal.prepare import PrepareConfig, Source, prepare

    model = make_model_folder(tmp_path / "model", family="qwen2", corpus=["what is it? it is a circle, yes"] * 20)
    lines = "".join(f'{{"text": "what is it? {"yes " * i}"}}\n' for i in range(1, 41))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl").write_text(lines)
    sources = [Source("a", [str(tmp_path / "a.jsonl")], 2.0), Source("b", [str(tmp_path / "b.jsonl")], 0.25)]
    prepare(PrepareConfig(str(model), sources, str(tmp_path / "out"), workers=1))
    table = read_lengths(tmp_path / "out")
    assert table.source_names == ["a", "b"] and table.source_weights == [2, 0.25] and len(table) == 80
    caps = {"text": 500, "vision": None}
    drawn = pack(table, caps).report["source_counts"]
    assert drawn["a"] == 80 and 0 < drawn["b"] < 30
    assert BalancedBatchSampler(table, caps, rank=0, world_size=2).packed.report["source_counts"] == drawn
    assert pack(table, caps, source_weights={"a": 1, "b": 3}).report["source_counts"] == {"a": 40, "b": 120}
    assert pack(table, caps, sources=np.zeros(80, int)).report["source_counts"] == {0: 80}, "other sources, other weights"
    # Chosen streams, and one table of several, keep them as well.
    (tmp_path / "c.csv").write_text("text\n7\n")
    both = read_lengths([tmp_path / "out", tmp_path / "c.csv"], names=["text"])
    assert both.source_names == ["a", "b", "c"] and both.source_weights == [2, 0.25, 1]

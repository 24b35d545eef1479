"""Cutting files into chunks, and going on from any of them."""

import json
import os

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from prepare_samples import talk, write_lines

from gimbal import UserError
from gimbal.prepare import readers
from gimbal.prepare.config import PrepareConfig, Source
from gimbal.prepare.readers import Position, read_chunks


def rows(chunk):
    if isinstance(chunk.payload, list):
        return [json.loads(raw) for raw in chunk.payload if raw.strip()]
    return [{k: v for k, v in row.items()} for row in chunk.payload.to_pylist()]


def chunks(paths, start=Position(), number=0):
    config = PrepareConfig("m", [Source("s", [str(path) for path in paths])], "o")
    return list(read_chunks(config, [os.path.getsize(path) for path in paths], start, number))


@pytest.fixture(params=["jsonl", "json", "parquet"])
def source(request, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK_SAMPLES", 7)
    samples = [{"text": f"sample {i} é 😀 ]}}," + "x" * (i % 13)} for i in range(50)]
    path = tmp_path / f"d.{request.param}"
    if request.param == "jsonl":
        path.write_text("\ufeff" + "".join(json.dumps(s, ensure_ascii=False) + "\n\n" for s in samples), encoding="utf-8")
    elif request.param == "json":
        path.write_text(json.dumps(samples, indent=1, ensure_ascii=False), encoding="utf-8")
    else:
        parquet.write_table(arrow.Table.from_pylist(samples), path, row_group_size=17)
    return path, samples


def test_all_samples_in_order(source):
    path, samples = source
    found = chunks([path, path])
    assert [row for chunk in found for row in rows(chunk)] == samples * 2
    assert [chunk.number for chunk in found] == list(range(len(found)))
    assert found[-1].bytes_done == 2 * path.stat().st_size or path.suffix == ".json"


def test_going_on_from_every_chunk_gives_the_same_rest(source):
    path, _ = source
    found = chunks([path, path])
    assert len(found) > 10
    for place, chunk in enumerate(found[:-1]):
        rest = chunks([path, path], chunk.next, place + 1)
        expected = found[place + 1 :]
        assert [(c.number, c.file, c.first_line, c.next, rows(c)) for c in rest] == [
            (c.number, c.file, c.first_line, c.next, rows(c)) for c in expected
        ]


def test_line_numbers_count_empty_lines(tmp_path):
    path = write_lines(tmp_path / "d.jsonl", [{"text": "a"}, "", {"text": "b"}])
    (chunk,) = chunks([path])
    assert chunk.first_line == 1 and len(chunk.payload) == 3


def test_json_file_with_lines_is_read_as_lines(tmp_path):
    path = write_lines(tmp_path / "d.json", [{"text": "a"}, {"text": "b"}])
    assert [row for chunk in chunks([path]) for row in rows(chunk)] == [{"text": "a"}, {"text": "b"}]


def test_large_lines_make_small_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK_BYTES", 100)
    path = write_lines(tmp_path / "d.jsonl", [{"text": "x" * 60}] * 4)
    assert [len(chunk.payload) for chunk in chunks([path])] == [2, 2]


@pytest.mark.parametrize("block", [1, 3, 64])
def test_json_array_with_tiny_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(readers, "_BLOCK", block)
    values = [{"text": "a,]}"}, {}, [1], "s", 12, None, {"text": "x" * 500}]
    path = tmp_path / "d.json"
    path.write_text(json.dumps(values))
    assert [row for chunk in chunks([path]) for row in rows(chunk)] == values
    path.write_text(" [ ] ")
    assert chunks([path]) == []


@pytest.mark.parametrize("text", ["[{}", "[{} {}]", "[{},]", "[{}] x", "[nope]", "[", "[{},"])
def test_broken_json_array_is_an_error_of_the_file(tmp_path, text):
    path = tmp_path / "d.json"
    path.write_text(text)
    with pytest.raises(UserError, match="d.json: not a JSON array"):
        chunks([path])


def test_json_array_that_is_not_utf8(tmp_path):
    path = tmp_path / "d.json"
    path.write_bytes(b'[{"text": "\xff"}]')
    with pytest.raises(UserError, match="not UTF-8"):
        chunks([path])


def test_broken_parquet(tmp_path):
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="not readable as Parquet"):
        chunks([path])


def test_parquet_with_embedded_images(models, folder):
    from gimbal.dataset import Dataset
    from gimbal.prepare import prepare

    picture = (folder / "a.png").read_bytes()
    table = []
    for number in range(5):
        sample = talk(f"question {number}", "yes")
        sample["messages"][0]["content"] = [{"type": "image", "text": None}, {"type": "text", "text": "which?"}]
        sample["messages"][1]["content"] = [{"type": "text", "text": "yes"}]
        sample["images"] = [{"bytes": picture, "path": None} if number != 3 else {"bytes": None, "path": "b.jpg"}]
        table.append(sample)
    parquet.write_table(arrow.Table.from_pylist(table), folder / "d.parquet")
    prepare(PrepareConfig(str(models["internvl"]), [Source("s", [str(folder / "d.parquet")])], str(folder / "out"), 1))
    data = Dataset(folder / "out")
    assert len(data) == 5 and data.manifest["counts"]["media"] == 2
    assert (folder / "out" / "media_blobs.bin").read_bytes() == picture
    assert [data.sample(i).media[0].width for i in range(5)] == [40, 40, 40, 33, 40]

"""The media table, the worker pool, the progress line and the configuration."""

import io
import json
import os
import random
import signal
import time

import pytest
from prepare_samples import write_lines

from gimbal import UserError
from gimbal.prepare.config import PrepareConfig, Source, config_from_json, sources_from_arguments, validate
from gimbal.prepare.media_table import MediaTable
from gimbal.prepare.pool import WorkerDied, ordered_map
from gimbal.prepare.progress import Progress, duration


def test_media_table_equals_a_dict():
    draw = random.Random(3)
    # Few distinct low halves, so that slots collide.
    keys = [bytes([draw.randrange(4)]) + bytes(7) + draw.randbytes(8) for _ in range(3000)]
    table, expected = MediaTable(), {}
    for key in keys + draw.sample(keys, 1000):
        new = key not in expected
        assert table.find_or_add(key) == (expected.setdefault(key, len(expected)), new)
    assert len(table) == len(expected)


def slow_square(value):
    time.sleep(0.02 if value % 5 == 0 else 0)
    return value * value


@pytest.mark.parametrize("workers", [1, 3])
def test_pool_keeps_the_order_and_reads_ahead_little(workers):
    taken = []

    def tasks():
        for value in range(200):
            taken.append(value)
            yield value

    for count, (task, result) in enumerate(ordered_map(slow_square, tasks(), workers)):
        assert (task, result) == (count, count * count)
        assert len(taken) <= count + 4 * workers + 2


def test_pool_moves_large_tasks_and_results():
    found = list(ordered_map(lambda data: data + b"!", iter([bytes(3_000_000)] * 8), 2))
    assert all(len(result) == 3_000_001 for _, result in found)


def test_pool_raises_what_a_worker_raises():
    with pytest.raises(ZeroDivisionError) as caught:
        list(ordered_map(lambda value: 1 // value, iter([1, 0]), 2))
    assert "Traceback" in caught.value.__notes__[0]


def test_pool_notices_a_dead_worker():
    with pytest.raises(WorkerDied, match="exit code -9"):
        list(ordered_map(lambda value: os.kill(os.getpid(), signal.SIGKILL), iter(range(9)), 2))


def test_pool_leaves_no_process_behind():
    processes = {pid for _, pid in ordered_map(lambda _: os.getpid(), iter(range(20)), 2)}
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_progress_line_and_duration(monkeypatch):
    assert [duration(s) for s in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    now = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    progress.update(500, 2, 250)
    progress.finish(2000, 2)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "prepare:  25%  500 samples  50/s  ETA 0:30  2 rejected"
    assert lines[1] == "prepare: 2,000 samples in 0:20 (100/s), 2 rejected"


def test_progress_bar_on_a_terminal(monkeypatch):
    now = iter([0.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    stream.isatty = lambda: True
    Progress(1000, resumed_samples=100, resumed_bytes=500, stream=stream).update(200, 0, 750)
    assert stream.getvalue() == f"\rprepare [{'#' * 18}{'.' * 6}]  75%  200 samples  10/s  ETA 0:10\x1b[K"


def test_sources_from_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = write_lines(tmp_path / "odd=name.jsonl", [])
    sources, order = sources_from_arguments(["a.jsonl", "x=b.jsonl", odd, "x=c.json"], ["x=0.5"], "/root")
    assert [(s.name, s.files, s.weight) for s in sources] == [
        ("a", ["a.jsonl"], 1.0), ("x", ["b.jsonl", "c.json"], 0.5), ("odd=name", [odd], 1.0),
    ]  # fmt: skip
    assert order == [(0, 0), (1, 0), (2, 0), (1, 1)]
    assert {s.media_root for s in sources} == {"/root"}


@pytest.mark.parametrize(
    "data, weights, words",
    [
        (["a/t.jsonl", "b/t.jsonl"], [], "write name=b/t.jsonl"),
        (["t=a.jsonl", "t.jsonl"], [], "named 't'"),
        (["t.jsonl", "t=a.jsonl"], [], "exists already"),
        (["=x.jsonl"], [], "NAME=FILE"),
        (["t.jsonl"], ["u=1"], "one of t"),
        (["t.jsonl"], ["t"], "NAME=WEIGHT"),
        (["t.jsonl"], ["t=much"], "not a number"),
    ],
)
def test_bad_source_arguments(data, weights, words):
    with pytest.raises(UserError, match=words):
        sources_from_arguments(data, weights, None)


def test_config_file(tmp_path):
    path = tmp_path / "c.json"
    value = {"model": "m", "out": "o", "sources": [{"files": ["x/a.jsonl"], "media_root": ""}, {"name": "n", "files": ["b.json"], "weight": 2}],
             "workers": 3, "max_tokens": 5, "strict": True, "image_max_patches": 4}
    path.write_text(json.dumps(value))
    assert config_from_json(str(path)) == PrepareConfig(
        "m", [Source("a", ["x/a.jsonl"]), Source("n", ["b.json"], 2.0)], "o", 3, 5, True, image_max_patches=4
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "not valid JSON"),
        ("[]", "must be an object"),
        ("{}", "missing key 'model'; missing key 'sources'; missing key 'out'"),
        ('{"model":"m","out":"o","sources":[],"worker":1}', "did you mean 'workers'"),
        ('{"model":"m","out":"o","sources":[],"zzz":1}', "known keys: model"),
        ('{"model":"m","out":"o","sources":[{"nam":"x"}]}', r"missing key 'sources\[0\].files'; unknown key 'sources\[0\].nam', did you mean 'sources\[0\].name'"),
        ('{"model":"m","out":"o","sources":[],"workers":true}', "'workers' must be int"),
        ('{"model":3,"out":"o","sources":[]}', "'model' must be str, not 3"),
    ],
)  # fmt: skip
def test_bad_config_file(tmp_path, text, words):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        config_from_json(str(path))


def test_missing_config_file(tmp_path):
    with pytest.raises(UserError, match="can't be read"):
        config_from_json(str(tmp_path / "none.json"))


def test_all_problems_of_a_configuration_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("")
    config = PrepareConfig(
        str(tmp_path / "nomodel"), [Source("s", [str(tmp_path / "gone.jsonl"), str(tmp_path / "a.txt")], -1.0, "/nowhere"), Source("s")],
        "", -1, -2, image_min_patches=5, image_max_patches=2,
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        validate(config)
    for words in ("no dataset folder", "nomodel' is not a folder", "used twice", "no files", "weight -1.0", "'/nowhere' is not a folder",
                  "no file '", "must end in .jsonl", "workers: -1", "max_tokens: -2", "image_min_patches 5 is above"):
        assert words in str(caught.value)
    with pytest.raises(UserError, match="no files are named.*at least 1"):
        validate(PrepareConfig(str(tmp_path), [], "o", image_max_patches=0))

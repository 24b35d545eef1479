"""Whole datasets: the format, determinism, resuming after kill -9, and what stops a run."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from prepare_samples import talk, write_lines

from gimbal import UserError
from gimbal.dataset import Dataset
from gimbal.prepare import PrepareConfig, Source, prepare, readers, records
from gimbal.prepare.build import build_dataset
from gimbal.prepare.resume import JOURNAL_FILE, PartialFolder

PYTHON = str(Path(__file__).resolve().parents[3] / "python")


def samples(count):
    """Conversations of many kinds, some of them unusable."""
    kinds = [
        lambda i: talk(f"what is {i}?", f"it is {i}", "a.png"),
        lambda i: talk(f"hello {i}", "yes " * (i % 7)),
        lambda i: {"conversations": [{"from": "human", "value": "<image>\n<image>\nboth?"}, {"from": "gpt", "value": str(i)}], "image": ["b.jpg", "c.webp"]},
        lambda i: {"text": f"document {i} " * (i % 5 + 1)},
        lambda i: talk("q", "a", "gone.png") if i % 3 else "{broken",
        lambda i: talk("q", "a", "c.webp", "a.png", "b.jpg"),
    ]  # fmt: skip
    return [kinds[i % len(kinds)](i) for i in range(count)]


@pytest.fixture()
def config(models, folder, monkeypatch):
    # Small chunks, so that little data makes many of them. The bytes of a dataset don't depend on it.
    monkeypatch.setattr(readers, "CHUNK_SAMPLES", 64)
    first = write_lines(folder / "one.jsonl", samples(400))
    second = write_lines(folder / "two.jsonl", samples(200))
    sources = [Source("one", [first]), Source("two", [second], 0.25)]
    return PrepareConfig(str(models["tiled"]), sources, str(folder / "out"), workers=1)


def content(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


def test_format_is_as_documented(config, folder):
    manifest = prepare(config)
    out = folder / "out"
    assert sorted(p.name for p in out.iterdir()) == sorted(set(records.DATA_FILES) - {"media_blobs.bin"} | {"manifest.json"})
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
        name: (out / name).stat().st_size for name in manifest["files"]
    }
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: digest for name, digest in content(out).items() if name != "manifest.json"
    }
    data = Dataset(out)
    index, counts = data.index, manifest["counts"]
    for begin, number, total in (
        ("token_begin", "num_tokens", "tokens"),
        ("loss_span_begin", "num_loss_spans", "loss_spans"),
        ("media_begin", "num_media", "media_refs"),
    ):
        ends = np.cumsum(index[number])
        assert list(index[begin]) == [0, *ends[:-1]] and ends[-1] == counts[total]
    assert index["num_loss_tokens"].sum() == counts["loss_tokens"]
    assert index["vision_rows"].sum() == counts["vision_rows"]
    assert counts["samples"] + counts["rejected"] == 600 and counts["rejected"] == 99
    assert counts["media"] == 3 and manifest["media_root"] == str(folder)
    assert manifest["max"] == {"text": index["num_tokens"].max(), "vision": index["vision_rows"].max()}
    assert [(s["name"], s["weight"], s["samples"] + s["rejected"]) for s in manifest["sources"]] == [("one", 1.0, 400), ("two", 0.25, 200)]
    context, length = manifest["model"]["image_token_id"], manifest["model"]["image_seq_length"]
    order = [(int(r["source"]), int(r["source_file"]), int(r["source_line"])) for r in index]
    assert order == sorted(order)
    for i in range(0, len(data), 37):
        sample = data.sample(i)
        assert sum(item.rows for item in sample.media) == sample.record["vision_rows"]
        assert list(sample.tokens).count(context) == sample.record["vision_rows"] * length
        assert sum(e - b for b, e in sample.spans) == sample.record["num_loss_tokens"] > 0
        assert all(0 < b < e <= len(sample.tokens) for b, e in sample.spans)
    # Media are numbered in the order of their first use.
    assert [data.media(i).name for i in range(3)] == ["a.png", "b.jpg", "c.webp"]


def test_same_bytes_for_any_number_of_workers(config, folder):
    prepare(config)
    expected = content(folder / "out")
    for workers in (2, 3):
        config.workers, config.out = workers, str(folder / f"out{workers}")
        prepare(config)
        assert content(config.out) == expected


def start(config_file, commit_seconds):
    code = (
        f"import sys; sys.path.insert(0, {PYTHON!r})\n"
        "from gimbal.prepare.config import config_from_json\nfrom gimbal.prepare.build import build_dataset\n"
        f"build_dataset(config_from_json({str(config_file)!r}), commit_seconds={commit_seconds})"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def test_killed_at_many_moments_and_restarted_gives_the_same_bytes(config, folder):
    write_lines(folder / "one.jsonl", samples(6000))
    prepare(config)
    expected = content(folder / "out")
    value = {"model": config.model, "out": str(folder / "again"), "workers": 2,
             "sources": [vars(source) for source in config.sources]}
    (folder / "c.json").write_text(json.dumps(value))
    journal = folder / "again.partial" / JOURNAL_FILE
    kills, seen = 0, 0
    for _ in range(40):
        process = start(folder / "c.json", 0.0)
        while process.poll() is None and kills < 3:
            lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if lines >= seen + 3:
                process.send_signal(signal.SIGKILL)
                kills, seen = kills + 1, lines
                break
            time.sleep(0.001)
        _, messages = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, messages
        # What a crash of the machine may leave: more data than the journal knows of, and a torn journal line.
        with open(folder / "again.partial" / "tokens.bin", "ab") as file:
            file.write(b"garbage")
        with open(journal, "ab") as file:
            file.write(b'{"chunk": 99, "sta')
    assert kills == 3 and "going on after" in messages
    assert content(folder / "again") == expected
    assert not (folder / "again.partial").exists()


class Crash(Exception):
    pass


def interrupt(config, monkeypatch, after):
    """Runs with a commit per chunk until `after` chunks are written."""
    from gimbal.prepare.writer import DatasetWriter

    count = iter(range(10**9))
    write = DatasetWriter.write

    def failing(self, result, source):
        if next(count) == after:
            raise Crash
        write(self, result, source)

    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "write", failing)
        with pytest.raises(Crash):
            build_dataset(config, commit_seconds=0.0)


def test_resume_from_every_chunk(config, folder, monkeypatch):
    prepare(config)
    expected = content(folder / "out")
    config.out = str(folder / "again")
    for after in range(0, 11, 2):
        interrupt(config, monkeypatch, after)
        prepare(config)
        assert content(config.out) == expected
        for path in Path(config.out).iterdir():
            path.unlink()


@pytest.mark.parametrize("change", ["data", "option", "model"])
def test_changed_inputs_start_anew(config, folder, monkeypatch, change, capfd, tmp_path):
    interrupt(config, monkeypatch, 3)
    if change == "data":
        write_lines(folder / "two.jsonl", samples(150))
    elif change == "option":
        config.max_tokens = 30
    else:
        import shutil

        shutil.copytree(config.model, tmp_path / "model")
        template = tmp_path / "model" / "chat_template.jinja"
        template.write_text(template.read_text().replace("assistant\\n", "assistant:\\n"))
        config.model = str(tmp_path / "model")
    prepare(config)
    assert "going on" not in capfd.readouterr().err
    anew = content(config.out)
    config.out = str(folder / "fresh")
    prepare(config)
    assert content(config.out) == anew


def test_interrupted_while_finishing(config, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(PartialFolder, "finish", lambda self: (_ for _ in ()).throw(Crash()))
        with pytest.raises(Crash):
            prepare(config)
    assert (folder / "out.partial" / "manifest.json").exists() and not (folder / "out").exists()
    prepare(config)
    finished = content(config.out)
    config.out = str(folder / "fresh")
    prepare(config)
    assert content(config.out) == finished


def test_finished_dataset_is_replaced_only_when_asked(config, folder):
    prepare(config)
    before = content(config.out)
    with pytest.raises(UserError, match="--overwrite"):
        prepare(config)
    config.max_tokens, config.overwrite = 40, True
    manifest = prepare(config)
    assert manifest["max_tokens"] == 40 and manifest["rejected_by_reason"]["too_long"] > 0
    assert content(config.out) != before
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("out")) == ["out"]


def test_folder_that_is_no_dataset_is_left_alone(config, folder):
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("precious")
    config.overwrite = True
    with pytest.raises(UserError, match="not a dataset folder"):
        prepare(config)
    assert (folder / "out" / "thesis.txt").read_text() == "precious"
    config.out = str(folder / "a.png")
    with pytest.raises(UserError, match="not a folder"):
        prepare(config)


def test_two_runs_at_once(config, folder):
    partial = folder / "out.partial"
    partial.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, time; f = open({str(partial / 'lock')!r}, 'wb'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        holder.stdout.readline()
        with pytest.raises(UserError, match="another `gimbal prepare`"):
            prepare(config)
    finally:
        holder.kill()
        holder.communicate()


def test_strict_stops_at_the_first_rejection(config, folder):
    config.strict = True
    with pytest.raises(UserError, match=r"one.jsonl, line 5: missing_file: .*gone.png.*--strict"):
        prepare(config)
    assert not (folder / "out").exists()


def test_strict_finds_rejections_of_the_interrupted_run(config, folder, monkeypatch):
    interrupt(config, monkeypatch, 3)
    config.strict = True
    with pytest.raises(UserError, match="one.jsonl, line 5: missing_file"):
        prepare(config)


def test_full_disk_says_so_and_the_run_can_go_on(config, folder):
    config_file = folder / "c.json"
    value = {"model": config.model, "out": config.out, "workers": 1, "sources": [vars(source) for source in config.sources]}
    config_file.write_text(json.dumps(value))

    def limit():
        # Files can't grow beyond this: the same path as a full disk, with EFBIG for ENOSPC.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "gimbal", "prepare", "--config", str(config_file)]
    environment = {**os.environ, "PYTHONPATH": PYTHON}
    result = subprocess.run(command, preexec_fn=limit, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and "no space to write" in result.stderr and "Traceback" not in result.stderr
    assert not (folder / "out").exists()
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    assert len(Dataset(folder / "out")) == 501


def test_folder_that_may_not_be_written(config, monkeypatch):
    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="Permission denied.*--out"):
        prepare(config)


def test_media_roots(models, folder):
    (folder / "x").mkdir()
    (folder / "y").mkdir()
    (folder / "a.png").rename(folder / "x" / "a.png")
    (folder / "b.jpg").rename(folder / "y" / "a.png")
    data = write_lines(folder / "d.jsonl", [talk("q", "a", "a.png")])
    sources = [Source("x", [data], media_root=str(folder / "x")), Source("y", [data], media_root=str(folder / "y"))]
    manifest = prepare(PrepareConfig(str(models["internvl"]), sources, str(folder / "out"), 1))
    found = Dataset(folder / "out")
    assert manifest["media_root"] == str(folder)
    assert [found.sample(i).media[0].name for i in range(2)] == ["x/a.png", "y/a.png"]
    assert [found.sample(i).media[0].width for i in range(2)] == [40, 33]


def test_image_options_override_the_folder(models, folder):
    data = write_lines(folder / "d.jsonl", [talk("q", "a", "a.png")])
    rows = {}
    for name, options in {
        "as_it_is": {},
        "few": {"image_max_patches": 3},
        "many": {"image_min_patches": 11},
        "whole": {"image_crop_to_patches": False},
    }.items():
        config = PrepareConfig(str(models["tiled"]), [Source("d", [data])], str(folder / name), 1, **options)
        rows[name] = prepare(config)["max"]["vision"]
    assert rows["whole"] == 1 and rows["few"] <= 4 < rows["as_it_is"] and rows["many"] >= 12

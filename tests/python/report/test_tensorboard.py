import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import synthetic
from gimbal.report.main import main
from gimbal.report.runs import read_run
from gimbal.report.tensorboard import Exporter, export, follow, scalars


def read_back(folder):
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    points = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            points += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return points


def test_every_number_is_written_once(run, tmp_path):
    assert export(read_run(run), tmp_path / "tb") == len(scalars(read_run(run).stages[0]))
    points = read_back(tmp_path / "tb")
    expected = {(step, tag): value for step, tag, value in scalars(read_run(run).stages[0])}
    assert len(points) == len(expected)
    for step, tag, value in points:
        assert abs(value - expected[step, tag]) <= 1e-6 * abs(value)
    assert {"train/loss", "speed/tokens_per_second", "time/forward_seconds", "balance/waste", "rank_busy_seconds/1"} <= {
        tag for _, tag, _ in points
    }


def test_exporting_again_leaves_no_point_twice(run, tmp_path):
    export(read_run(run), tmp_path / "tb")
    (tmp_path / "tb" / "events.out.tfevents.1.other").write_bytes(b"")
    count = export(read_run(run), tmp_path / "tb")
    assert len(read_back(tmp_path / "tb")) == count
    assert (tmp_path / "tb" / "events.out.tfevents.1.other").exists()


def test_evaluations_and_stages_have_folders_and_tags(tmp_path, dataset, model):
    for name in ("align", "tune"):
        synthetic.make_run(tmp_path / "runs" / name, dataset, model, steps=100)
    (tmp_path / "runs" / "stages.json").write_text(json.dumps(["align", "tune"]))
    export(read_run(tmp_path / "runs"), tmp_path / "tb")
    for name in ("align", "tune"):
        assert (100, "eval/answers", 12.0) in read_back(tmp_path / "tb" / name)


def test_update_writes_only_what_is_new(run, tmp_path):
    exporter = Exporter(tmp_path / "tb")
    first = exporter.update(read_run(run))
    assert first > 0 and exporter.update(read_run(run)) == 0
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 40, "loss": 0.5, "lr": 0.1}) + "\n")
    assert exporter.update(read_run(run)) == 2
    exporter.close()
    assert len(read_back(tmp_path / "tb")) == first + 2


def test_follow_ends_with_the_run(tmp_path, dataset, model):
    folder = synthetic.make_run(tmp_path / "run", dataset, model, steps=5, finished=False)
    result = []
    thread = threading.Thread(target=lambda: result.append(follow(folder, tmp_path / "tb", every_seconds=0.02)))
    thread.start()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 6, "loss": 0.25}) + "\n")
    (folder / "summary.json").write_text('{"steps": 6}')
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert (6, "train/loss", 0.25) in read_back(tmp_path / "tb") and result == [len(read_back(tmp_path / "tb"))]


def test_follow_ends_when_the_trainer_is_gone(tmp_path, dataset, model):
    folder = synthetic.make_run(tmp_path / "run", dataset, model, steps=5, finished=False)
    out = tmp_path / "tb"
    # The starter leaves as soon as the first points are there.
    starter = (
        "import pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'gimbal.report', {str(folder)!r}, '--tensorboard', {str(out)!r}, '--follow'],"
        " stdout=subprocess.DEVNULL)\n"
        f"while not list(pathlib.Path({str(out)!r}).glob('*')): time.sleep(0.02)\n"
        "print(child.pid)"
    )
    package = str(Path(__file__).parents[3] / "python")
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "PYTHONPATH": package})
    child = int(done.stdout)
    for _ in range(300):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        raise AssertionError("it goes on for ever")
    assert len(read_back(out)) == len(scalars(read_run(folder).stages[0]))


def test_command(run, tmp_path, capsys):
    assert main([str(run), "--tensorboard", str(tmp_path / "tb"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["points"] == len(scalars(read_run(run).stages[0]))
    assert not (run / "report.html").exists()

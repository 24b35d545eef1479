"""`gimbal simulate`: schedules with given times, steps of plans, traces, timelines, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gimbal.generate.programs import find_program
from plan_tool import plan, write_lengths, write_model
from trace_rules import read_trace


def simulate(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [find_program("gimbal"), "simulate", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == code, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert "terminate called" not in ended.stderr, ended.stderr
    return ended


def figures(*words: object) -> dict[str, Any]:
    return json.loads(simulate(*words, "--json", "-").stdout)


def refused(*words: object) -> str:
    ended = simulate(*words, code=2)
    assert ended.stdout == ""
    return ended.stderr


def shape(kind: str, stages: int, micro_batches: int) -> list[object]:
    return ["--schedule", kind, "--stages", stages, "--micro-batches", micro_batches]


def test_equal_stages_wait_the_closed_form() -> None:
    for stages, micro_batches in [(1, 4), (2, 3), (4, 8), (8, 8)]:
        found = figures(*shape("1f1b", stages, micro_batches), "--forward", 2, "--backward", 3.5)
        assert found["seconds"] == pytest.approx((micro_batches + stages - 1) * 5.5e-3)
        assert found["idle_share"] == pytest.approx((stages - 1) / (micro_batches + stages - 1))
        assert found["schedule"]["in_flight"] == list(range(min(stages, micro_batches), 0, -1))[:stages]


def test_zero_bubble_waits_less_with_the_same_memory() -> None:
    times = ["--forward", 1, "--backward", 2, "--weight", 1, "--saved", "2K"]
    zero, plain = figures(*shape("zb-h1", 4, 8), *times), figures(*shape("1f1b", 4, 8), *times[:4], *times[6:])
    assert zero["seconds"] == pytest.approx(27e-3) and plain["seconds"] == pytest.approx(33e-3)
    assert max(rank["peak_bytes"] for rank in zero["ranks"]) == max(rank["peak_bytes"] for rank in plain["ranks"]) == 4 * 2048


def test_times_may_differ_by_stage() -> None:
    found = figures(*shape("gpipe", 3, 1), "--forward", "1,2,4", "--backward", "1,1,8")
    assert found["seconds"] == found["critical_path_seconds"] == pytest.approx(17e-3)
    assert [rank["busy_seconds"] for rank in found["ranks"]] == pytest.approx([2e-3, 3e-3, 12e-3])


def test_messages_take_time_and_may_block() -> None:
    words = [*shape("1f1b", 2, 1), "--send", 0.5]
    assert figures(*words)["seconds"] == pytest.approx(7e-3)
    blocked = figures(*shape("1f1b", 2, 4), "--send", 0.5, "--blocking-sends")
    assert blocked["ranks"][0]["send_wait_seconds"] == pytest.approx(2e-3)
    assert blocked["seconds"] > figures(*shape("1f1b", 2, 4), "--send", 0.5)["seconds"]


def test_interleaved_has_two_stages_per_rank_unless_told() -> None:
    assert figures(*shape("interleaved", 8, 4))["schedule"]["ranks"] == 4
    assert figures(*shape("interleaved", 6, 4), "--stages-per-rank", 3)["schedule"]["ranks"] == 2


def test_text_has_schedule_timeline_and_ranks() -> None:
    text = simulate(*shape("1f1b", 2, 3), "--timeline", "--width", 12).stdout
    assert text.startswith("1f1b: 2 stages on 2 ranks, 3 micro-batches\n")
    assert "rank 0 |01..aa2bb.cc|  75.0 % busy\nrank 1 |.0aa1bb2cc..|  75.0 % busy\n" in text
    assert "step 12.0 ms, critical path 6.0 ms; ranks wait 25.0 % of their time" in text
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["0", "0", "9.0", "ms", "25.0", "%", "2"], ["1", "1", "9.0", "ms", "25.0", "%", "1"],
    ]  # fmt: skip


def test_what_print_writes_is_a_schedule_file(tmp_path: Path) -> None:
    printed = simulate(*shape("zb-h1", 3, 5), "--print", "--timeline").stdout
    assert printed.startswith("zb-h1 ranks=3 stages=3 micro_batches=5\n0F0 0F1 0F2 0I0 0W0 ")
    (tmp_path / "s.txt").write_text(printed)
    again = figures("--schedule-file", tmp_path / "s.txt", "--print")
    assert again.pop("schedule")["text"] == "".join(f"{line}\n" for line in printed.splitlines()[:4])
    made = figures(*shape("zb-h1", 3, 5))
    del made["schedule"]
    assert again == made


@pytest.mark.parametrize("kind", ["gpipe", "1f1b", "interleaved", "zb-h1"])
def test_traces_keep_the_rules_of_their_format(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    words = [*shape(kind, 4, 8), "--forward", "1.1,0.7,0.3333333,1", "--send", 0.01, "--saved", "1M"]
    found = figures(*words, "--trace", file)
    events = read_trace(file)
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == 4 * 8 * (3 if kind == "zb-h1" else 2)
    assert max(event["ts"] + event["dur"] for event in slices) == pytest.approx(found["seconds"] * 1e6, abs=1e-2)
    assert len([event for event in events if event["ph"] == "s"]) == 3 * 8 * 2
    peaks = {event["tid"]: 0.0 for event in slices}
    for event in events:
        if event["ph"] == "C":
            peaks[event["tid"]] = max(peaks[event["tid"]], event["args"]["bytes"])
    assert [peaks[rank] for rank in range(len(peaks))] == [rank["peak_bytes"] for rank in found["ranks"]]


def test_files_hold_the_figures_that_stdout_does(tmp_path: Path) -> None:
    words = shape("gpipe", 2, 2)
    assert "gpipe: 2 stages" in simulate(*words, "--json", tmp_path / "f.json").stdout
    assert json.loads((tmp_path / "f.json").read_text()) == figures(*words)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["nothing to simulate", "--schedule NAME", "PLAN.json"]),
        (["--schedule", "pipedream", "--stages", 2, "--micro-batches", 2], ["'pipedream'", "gpipe, 1f1b, interleaved, zb-h1"]),
        (["--schedule", "1f1b", "--stages", 2], ["needs --stages N and --micro-batches N"]),
        (shape("1f1b", 0, 2), ["--stages: found '0'", "a whole number from 1"]),
        (["--schedule", "1f1b", "--stages", 2, "--micro-batches", "x"], ["--micro-batches: found 'x'", "a whole number from 1"]),
        ([*shape("1f1b", 4, 2), "--stages-per-rank", 2], ["only interleaved has more"]),
        (shape("interleaved", 5, 2), ["5 is no multiple of 2 stages per rank", "--stages-per-rank"]),
        (shape("interleaved", 8, 9), ["9 micro-batches in 2 equal rounds", "take 8 or 10"]),
        (shape("gpipe", 100_000, 100_000), ["more than 4194304", "fewer micro-batches"]),
        ([*shape("1f1b", 3, 2), "--forward", "1,2"], ["--forward: found 2 values", "each of 3 stages"]),
        ([*shape("1f1b", 3, 2), "--forward", "1,,2"], ["--forward: found ''", "a number of at least 0"]),
        ([*shape("1f1b", 2, 2), "--forward", "1,0"], ["--forward: stage 1 takes 0 ms"]),
        ([*shape("1f1b", 2, 2), "--backward=-1"], ["--backward: found '-1'"]),
        ([*shape("1f1b", 2, 2), "--weight", 1], ["--weight: counts where backward is split"]),
        ([*shape("zb-h1", 2, 2), "--weight", "1,3"], ["--weight: 3 ms of stage 1", "takes 2 ms"]),
        ([*shape("1f1b", 2, 2), "--send", "fast"], ["--send: found 'fast'"]),
        ([*shape("1f1b", 2, 2), "--saved", "1X"], ["--saved: found '1X'"]),
        ([*shape("1f1b", 2, 2), "--blocking-sends"], ["--blocking-sends", "give --send MS"]),
        ([*shape("1f1b", 2, 2), "--width", 50], ["--width", "give --timeline"]),
        ([*shape("1f1b", 2, 2), "--timeline", "--width", 5], ["--width: found '5'", "from 10"]),
        ([*shape("1f1b", 2, 2), "--timeline", "--json", "-"], ["--timeline", "leave one out"]),
        ([*shape("1f1b", 2, 2), "--trace", "/nowhere/t.json"], ["--trace: /nowhere/t.json", "no folder /nowhere"]),
        ([*shape("1f1b", 2, 2), "--json", "/nowhere/t.json"], ["--json: /nowhere/t.json", "no folder /nowhere"]),
        ([*shape("1f1b", 2, 2), "--trace", "/tmp"], ["--trace: /tmp is a folder"]),
        ([*shape("1f1b", 2, 2), "--trace", ""], ["--trace: the name is empty"]),
        ([*shape("1f1b", 2, 2), "--trace", "-"], ["--trace: '-' is no file"]),
        ([*shape("1f1b", 2, 2), "--json", "/dev/null"], ["--json: /dev/null is no plain file"]),
        (["--schedule-file", "/nowhere/s.txt"], ["/nowhere/s.txt"]),
        (["--schedule-file", "s.txt", "--stages", 2], ["--stages: the file of --schedule-file says it"]),
        (["--schedule-file", "s.txt", "--schedule", "1f1b"], ["--schedule: the file"]),
        (["--stage", 2], ["--stage", "gimbal simulate --help"]),
        (["/nowhere/plan.json", "--model", "m", "--lengths", "l", "--hardware", "a100-80g"], ["/nowhere/plan.json"]),
        (["plan.json"], ["no model is given"]),
    ],
)  # fmt: skip
def test_bad_words_are_refused_with_the_next_step(words: list[object], parts: list[str]) -> None:
    message = refused(*words)
    for part in parts:
        assert part in message, message


def test_schedules_that_cannot_run_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.txt"
    file.write_text("mine ranks=2 stages=2 micro_batches=2\n0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1\n")
    message = refused("--schedule-file", file)
    assert f"{file}: the schedule cannot run" in message and "rank 1 waits for ever at 1F1, which needs 0F1" in message
    file.write_text("mine ranks=1 stages=1 micro_batches=99\n-\n")
    assert "0F0 is missing" in refused("--schedule-file", file) and "and 188 more" in refused("--schedule-file", file)
    file.write_text("mine ranks=1 stages=1 micro_batches=1\n0F0 0Q0\n")
    assert f"{file}:2: found '0Q0'" in refused("--schedule-file", file)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """plan.json of two data-parallel pipelines of two ranks, and the options of its inputs."""
    folder = tmp_path_factory.mktemp("simulate")
    inputs = ["--model", write_model(folder / "config.json"), "--lengths", write_lengths(folder / "a.csv"), "--hardware", "a100-80g"]
    file = folder / "plan.json"
    plan(*inputs, "--devices", 4, "--pp", 2, "--schedule", "1f1b", "--cap", "text=4096", "--packs-per-step", 8, "--out", file)
    return file, inputs


def test_a_plan_is_simulated_with_its_own_packs(planned: tuple[Path, list[object]], tmp_path: Path) -> None:
    file, inputs = planned
    stored = json.loads(file.read_text())
    found = figures(file, *inputs, "--trace", tmp_path / "trace.json")
    assert found["schedule"] == {"name": "1f1b", "ranks": 2, "stages": 2, "micro_batches": 4, "in_flight": [2, 1]}
    assert len(found["data_parallel"]) == 2
    time = found["time"]
    assert sum(time[key] for key in ("compute", "recompute", "communication", "bubble", "imbalance")) == pytest.approx(time["seconds"])
    assert max(found["peak_bytes"]) <= found["capacity_bytes"]
    slowest = found["data_parallel"][found["slowest_rank"]]["seconds"]
    assert slowest == max(rank["seconds"] for rank in found["data_parallel"]) <= time["seconds"]
    events = [event for event in read_trace(tmp_path / "trace.json") if event["ph"] == "X"]
    assert {event["pid"] for event in events} == {0, 1} and len(events) == 2 * 2 * 4 * 2
    # The prediction of the plan is the mean over steps of this very simulation.
    seconds = [figures(file, *inputs, "--step", step)["time"]["seconds"] for step in range(found["steps"])]
    assert min(seconds) <= stored["prediction"]["step"]["seconds"] <= max(seconds)
    assert len(set(seconds)) > 1


def test_a_plan_has_a_timeline(planned: tuple[Path, list[object]]) -> None:
    file, inputs = planned
    text = simulate(file, *inputs, "--timeline", "--width", 40, "--step", 1).stdout
    assert text.startswith(f"{file}: pp 2, dp_shard 2; 1f1b, 4 micro-batches") or text.startswith(f"{file}: pp 2, dp_replicate 2;")
    assert "\nstep 1 of " in text and "\nrank 1 |" in text and "Slowest data-parallel rank" in text


def test_samples_above_the_caps_of_a_plan_are_left_out(planned: tuple[Path, list[object]], tmp_path: Path) -> None:
    file, inputs = planned
    lengths = tmp_path / "b.csv"
    lengths.write_text(inputs[3].read_text() + "0,4097\n")
    words = [file, *inputs[:3], lengths, *inputs[4:]]
    assert "b.csv line 402" in refused(*words)
    ended = simulate(*words, "--oversize", "reject", "--json", "-")
    assert "1 sample above a cap is left out" in ended.stderr
    assert json.loads(ended.stdout)["notes"] == ["1 sample above a cap is left out"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--pp", 2], ["the plan says its mesh", "leave out"]),
        (["--without", "recompute"], ["the plan says its mesh"]),
        (["--step", 10_000], ["--step: found 10000", "full steps"]),
        (["--step", "one"], ["--step: found 'one'"]),
        (["--devices", 3], ["plan for 4"]),
        (["--forward", 1], ["--forward", "gimbal simulate PLAN.json --help"]),
    ],
)
def test_a_plan_refuses_what_it_says_itself(planned: tuple[Path, list[object]], words: list[object], parts: list[str]) -> None:
    file, inputs = planned
    message = refused(file, *inputs, *words)
    for part in parts:
        assert part in message, message


def test_a_plan_of_a_recipe_is_simulated_with_it(model: Path, data: Path, tmp_path: Path) -> None:
    recipe, file = tmp_path / "recipe.yaml", tmp_path / "plan.json"
    content = {
        "name": "tiny", "model": {"path": str(model), "init": "random"}, "data": {"train": "elsewhere"},
        "balance": {"text_cap": 192, "packs_per_step": 4},
    }  # fmt: skip
    recipe.write_text(json.dumps(content))  # JSON is YAML
    words = [recipe, f"data.train={data}", "--hardware", "h100-80g"]
    plan(*words, "--devices", 2, "--pp", 2, "--out", file)
    found = figures(file, *words)
    assert found["schedule"]["ranks"] == 2 and found["schedule"]["micro_batches"] == 4


def test_help_names_both_forms() -> None:
    assert "gimbal simulate PLAN.json" in simulate("--help").stdout
    text = simulate("plan.json", "--help").stdout
    assert "--step" in text and "--lengths" in text

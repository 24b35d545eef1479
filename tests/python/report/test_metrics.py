import json

from gimbal.report.metrics import MeshPart, finite, parse_metrics


def train(step, **more):
    return json.dumps({"kind": "train", "step": step, "loss": 1.0, **more})


def test_kinds_are_kept_apart():
    metrics = parse_metrics([json.dumps({"kind": "summary", "model": "internvl"}), train(1), train(2),
                             json.dumps({"kind": "eval", "step": 2, "loss": 0.5}),
                             json.dumps({"kind": "skipped", "step": 3, "samples": ["a"]})])
    assert metrics.summary["model"] == "internvl" and metrics.starts == 1
    assert metrics.steps == [1, 2]
    assert [record["loss"] for record in metrics.evals] == [0.5]
    assert [record["samples"] for record in metrics.skipped] == [["a"]]


def test_line_cut_by_a_crash_is_counted_and_the_rest_is_read():
    metrics = parse_metrics([train(1), train(2), train(3)[:25]])
    assert metrics.steps == [1, 2] and metrics.broken_lines == [3]


def test_lines_that_are_no_records_are_counted():
    metrics = parse_metrics(["[1]", '{"step": 1}', '{"kind": "train"}', "", train(1)])
    assert metrics.broken_lines == [1, 2, 3] and metrics.steps == [1]


def test_unknown_kinds_are_named_once():
    metrics = parse_metrics(['{"kind": "odd", "step": 1}', '{"kind": "odd", "step": 2}'])
    assert metrics.unknown_kinds == ["odd"]


def test_steps_run_again_replace_the_earlier_ones():
    lines = [train(1), train(2, loss=7.0), json.dumps({"kind": "eval", "step": 2, "loss": 9.0}),
             json.dumps({"kind": "skipped", "step": 3}), train(4), json.dumps({"kind": "summary"}), train(2, loss=5.0), train(3)]
    metrics = parse_metrics(lines)
    assert metrics.steps == [1, 2, 3]
    assert metrics.column("loss") == [1.0, 5.0, 1.0]
    assert metrics.evals == [] and metrics.skipped == []


def test_an_evaluation_of_the_last_step_does_not_remove_the_step():
    metrics = parse_metrics([train(1), train(2), json.dumps({"kind": "eval", "step": 2, "loss": 0.5})])
    assert metrics.steps == [1, 2] and len(metrics.evals) == 1


def start(mesh, first_step, ranks=2):
    return json.dumps({"kind": "summary", "mesh": mesh, "ranks": ranks, "first_step": first_step})


def test_each_mesh_is_listed_with_its_first_step():
    lines = [start("dp_shard 2", 0), train(1), train(2), start("dp_shard 2", 2), train(3)]
    lines += [start("pp 4", 3, 4), train(4)]
    parts = [MeshPart("dp_shard 2", 2, 0), MeshPart("pp 4", 4, 3)]
    assert parse_metrics(lines).meshes == parts
    # Steps that are done again count for the mesh that does them last.
    assert parse_metrics([*lines, start("tp 2", 3)]).meshes == [parts[0], MeshPart("tp 2", 2, 3)]
    assert parse_metrics([*lines, start("dp_shard 2", 3)]).meshes == parts[:1]
    assert parse_metrics([*lines, start("tp 2", 0)]).meshes == [MeshPart("tp 2", 2, 0)]
    assert parse_metrics([train(1), json.dumps({"kind": "summary"})]).meshes == []


def test_what_a_start_ended_with_is_kept_on_the_same_mesh_alone():
    ended = [json.dumps({"kind": kind, "step": 2, "ranks": []}) for kind in ("prediction", "communication")]
    lines = [start("pp 2", 0), train(1), train(2), *ended]
    same, other = parse_metrics([*lines, start("pp 2", 2)]), parse_metrics([*lines, start("tp 2", 2)])
    assert same.prediction["step"] == 2 and same.communication["step"] == 2
    assert other.prediction == {} and other.communication == {}


def test_values_that_can_not_be_drawn_become_none():
    metrics = parse_metrics([train(1).replace("1.0", "NaN"), train(2), '{"kind": "train", "step": 3, "loss": null}'])
    assert metrics.column("loss") == [None, 1.0, None]
    assert finite(True) is None and finite("1") is None and finite(float("inf")) is None and finite(2) == 2

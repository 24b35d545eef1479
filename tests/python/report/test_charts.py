import random

import synthetic
from gimbal.report import charts
from gimbal.report.metrics import Metrics
from gimbal.report.runs import Run, Stage, read_run


def made_run(tmp_path, records_per_stage):
    stages, offset = [], 0
    for index, records in enumerate(records_per_stage):
        stages.append(Stage(f"stage{index}", tmp_path, Metrics(train=records), step_offset=offset))
        offset += records[-1]["step"] if records else 0
    return Run(tmp_path, stages, [stage.name for stage in stages])


def test_thin_keeps_the_mean_and_the_last_step():
    values = [(step, float(step)) for step in range(1, 1001)]
    thinned = charts.thin(values, 100)
    assert len(thinned) == 100 and thinned[-1][0] == 1000
    assert sum(y for _, y in thinned) / 100 == sum(y for _, y in values) / 1000


def test_thin_leaves_gaps_where_no_value_is():
    assert charts.thin([(1, None), (2, None), (3, 1.0), (4, None)], 2) == [(2, None), (4, 1.0)]


def test_smooth_starts_at_the_first_value_and_follows_a_constant():
    smoothed = charts.smooth([(0, 5.0), (1, 5.0), (2, 5.0)], 8)
    assert [round(y, 12) for _, y in smoothed] == [5.0, 5.0, 5.0]


def test_smooth_starts_anew_with_a_stage():
    smoothed = charts.smooth([(1, 1.0), (2, 1.0), (3, 9.0), (4, 9.0)], 8, [0, 2])
    assert [round(y, 12) for _, y in smoothed] == [1.0, 1.0, 9.0, 9.0]


def test_idle_share_is_one_minus_busy_over_busiest():
    record = {"ranks": [{"rank": 0, "busy_seconds": 1.0}, {"rank": 1, "busy_seconds": 4.0}]}
    assert charts.idle_shares(record) == {0: 0.75, 1: 0.0}
    assert charts.idle_shares({"ranks": [{"rank": 0, "busy_seconds": 0.0}]}) == {}
    assert charts.idle_shares({}) == {}


def test_heat_map_has_a_row_for_each_rank_and_a_column_for_each_step(tmp_path):
    rng = random.Random(0)
    run = made_run(tmp_path, [[synthetic.train_record(step, rng, ranks=4) for step in range(1, 11)]])
    heat = charts.rank_heat(run)["data"][0]
    assert heat["y"] == ["rank 0", "rank 1", "rank 2", "rank 3"] and heat["x"] == list(range(1, 11))
    for column, record in enumerate(run.stages[0].metrics.train):
        for rank, share in charts.idle_shares(record).items():
            assert abs(heat["z"][rank][column] - share) < 1e-3


def test_heat_map_of_many_ranks_and_steps_is_averaged(tmp_path):
    rng = random.Random(0)
    run = made_run(tmp_path, [[synthetic.train_record(step, rng, ranks=300) for step in range(1, 901)]])
    heat = charts.rank_heat(run)["data"][0]
    assert len(heat["x"]) <= charts.MAX_HEAT_COLUMNS and len(heat["y"]) <= charts.MAX_HEAT_ROWS
    assert heat["x"][-1] == 900 and heat["y"][0] == "ranks 0–2"


def test_one_rank_has_no_heat_map(tmp_path):
    run = made_run(tmp_path, [[synthetic.train_record(1, random.Random(0), ranks=1)]])
    assert charts.rank_heat(run) is None


def test_stages_follow_each_other_on_the_step_axis(tmp_path):
    rng = random.Random(0)
    run = made_run(tmp_path, [[synthetic.train_record(s, rng) for s in (1, 2, 3)], [synthetic.train_record(s, rng) for s in (1, 2)]])
    figure = charts.series(run, "lr", "lr", "red")
    assert figure["data"][0]["x"] == [1, 2, 3, 4, 5]
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [3]
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["stage0", "stage1"]


def test_time_parts_and_the_rest_add_up_to_the_step(run):
    figure = charts.time_split(read_run(run))
    assert [trace["name"] for trace in figure["data"]][-1] == "other"
    for column, record in enumerate(read_run(run).stages[0].metrics.train):
        total = sum(trace["y"][column] for trace in figure["data"])
        assert abs(total - record["step_seconds"]) < 1e-5 * total


def test_a_key_that_no_step_has_gives_no_chart(run):
    assert charts.series(read_run(run), "absent", "absent", "red") is None

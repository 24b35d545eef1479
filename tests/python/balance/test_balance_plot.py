import datetime
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from gimbal import UserError
from gimbal.balance import plot, plot_charts
from gimbal.balance.plot_data import parse, read_plot_data

STREAMS = ["vision", "tokens"]


def window(first, slots, ranks, spread):
    """Loads whose mean is the same in every slot; the spread over the ranks is `spread` of it."""
    tokens = [
        [5000 - round(spread * 5000 * ((7 * s + 3 * r) % ranks) / ranks) for r in range(ranks)] for s in range(slots)
    ]
    vision = [[max(1, t // 330) for t in row] for row in tokens]
    return {
        "first_slot": first,
        "loads": {"vision": vision, "tokens": tokens, "cost": [[1.5 * t for t in row] for row in tokens]},
    }


def method(name, packs, gap, spread, ranks=8, slots=40, tail=True):
    counts = [0] * 51
    counts[49], counts[40] = packs - packs // 10, packs // 10
    if gap is None:
        counts[50], counts[49] = counts[49] // 3, counts[49] - counts[49] // 3
    bars = {"counts": counts}
    return {
        "method": name, "packs": packs, "gap": gap, "samples_per_pack": 3.9, "fill": {"vision": 0.99, "tokens": None},
        "waste": {"vision": spread / 2, "tokens": spread / 2, "cost": spread / 2 + 0.0001}, "pad_ratio": 0.2 if gap is None else 0.0,
        "dist_ratio": {"vision": spread, "tokens": spread / 3}, "order_correlation": 0.01, "source_mix_ratio": 1.1, "seconds": 0.05,
        "steps": slots, "slots": slots, "head": window(0, slots, ranks, spread),
        "tail": window(slots, slots, ranks, spread) if tail else None,
        "fill_histogram": {"vision": {"reference": 16, **bars}, "tokens": {"reference": 5376, **bars}},
    }  # fmt: skip


def sample(ranks=8, **changes):
    value = {
        "format": "gimbal-balance-plot", "version": 1, "files": ["a.csv", "b <i>.csv"], "streams": STREAMS,
        "caps": {"vision": 16, "tokens": None}, "cap_cost": None, "cap_samples": None, "ranks": ranks, "accumulate": 1, "seed": 0,
        "epoch": 0, "samples_in": 40_941, "samples_packed": 40_939, "samples_rejected": 2, "packs_lower_bound": 10_347, "bound": "lp",
        "sources": [{"name": "a", "samples": 40_000, "drawn": 40_000, "weight": 1.0},
                    {"name": "b", "samples": 941, "drawn": 1882, "weight": 2.0}],
        "methods": [method("gimbal", 10_378, 0.003, 0.001, ranks), method("isf", 10_446, 0.01, 0.2, ranks),
                    method("random", 10_400, None, 0.5, ranks)],
        "cap_curves": [{"stream": "vision", "cap": 16, "auto": True, "closed_form": 15,
                        "points": [{"cap": c, "cost_per_sample": 1000 + (c - 16) ** 2, "error": 3.0, "packs": 160000 / c, "fill": 0.9}
                                   for c in range(10, 24, 2)]}],
    }  # fmt: skip
    return json.loads(json.dumps(value | changes))


class Outline(HTMLParser):
    """Headings, links to other places, and whether every element is closed."""

    VOID = {"meta", "link"}

    def __init__(self, page):
        super().__init__()
        self.open, self.headings, self.outside, self.plots = [], [], [], []
        # plotly's own script holds texts that look like tags.
        self.feed(re.sub(r"<script>.*?</script>", "", page, flags=re.S))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        place = attributes.get("src") or attributes.get("href")
        if place and not place.startswith("data:"):
            self.outside.append(place)
        if attributes.get("class") == "plot":
            self.plots.append(attributes["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data.strip())


def figures(page):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1).replace("<\\/", "</"))


def render(**changes):
    return plot.render(parse(sample(**changes), "d.json"), now=datetime.datetime(2026, 1, 2, 3, 4))


def test_page_has_every_part_and_no_link_to_the_network():
    page = render()
    seen = Outline(page)
    assert seen.outside == []
    assert {
        "Figures",
        "Idle time, rank by rank",
        "Idle time, method by method",
        "How full the packs are",
        "Choosing the cap",
        "Sources",
    } <= set(seen.headings)
    assert "Balance of a.csv, b <i>.csv" in seen.headings and "b <i>.csv" not in page.split("<script")[0]
    assert seen.plots == [
        "before-head",
        "after-head",
        "before-tail",
        "after-tail",
        "waste",
        "fill-0",
        "fill-1",
        "curve-0",
    ]
    assert set(seen.plots) == set(figures(page))


def test_table_shows_all_methods_side_by_side():
    table = re.search(r"<thead>(.*?)</table>", render(), re.S).group(1)
    rows = {
        cells[0]: cells[1:]
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.S)
        if (cells := re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row))
    }
    assert rows[""] == ["gimbal", "ISF (OmniBal)", "random mini-batches"]
    assert rows["packs"] == ["10,378", "10,446", "10,400"]
    assert rows["above the bound of 10,347"] == ["0.3 %", "1 %", "–"]
    assert rows["fill, tokens"] == ["–"] * 3
    assert rows["idle, cost"] == ["0.06 %", "10 %", "25 %"]
    assert rows["padding"] == ["0 %", "0 %", "20 %"]


def test_heat_maps_share_their_scale_and_show_idle_shares():
    drawn = figures(render())
    before, after = drawn["before-head"]["data"][0], drawn["after-head"]["data"][0]
    assert before["zmax"] == after["zmax"] == pytest.approx(0.5 * 7 / 8, rel=1e-3)
    assert len(before["y"]) == 8 and before["x"] == list(range(40))
    assert drawn["after-tail"]["data"][0]["x"][0] == 40
    # Per slot one rank is the busiest, and waits for nobody.
    assert all(min(column) == 0 for column in zip(*before["z"]))
    assert max(max(row) for row in after["z"]) <= 0.0011


def test_many_ranks_are_drawn_as_few_rows_and_the_caption_says_so():
    page = render(
        ranks=1024,
        methods=[
            method("gimbal", 10_378, 0.003, 0.001, 1024, 3, tail=False),
            method("random", 9, None, 0.5, 1024, 3, tail=False),
        ],
    )
    drawn = figures(page)
    assert len(drawn["before-head"]["data"][0]["z"]) == 128
    assert "8 neighbouring ranks are shown as one row" in page
    assert "after-tail" not in drawn


def test_one_rank_and_no_full_slot_are_said_in_words():
    page = render(ranks=1)
    assert "One rank: nothing waits for another" in page and "after-head" not in figures(page)
    empty = [method("gimbal", 3, 0.0, 0.0, 8, 0, tail=False), method("random", 3, None, 0.0, 8, 0, tail=False)]
    page = render(methods=empty)
    assert "No slot is full with 8 ranks: random mini-batches, gimbal." in page and "after-head" not in figures(page)


def test_one_method_alone_is_drawn():
    page = render(methods=[method("random", 10_400, None, 0.5)], cap_curves=[], sources=[])
    assert set(figures(page)) == {"after-head", "after-tail", "waste", "fill-0", "fill-1"}
    assert "above the bound</span>" not in page
    assert {"Choosing the cap", "Sources"}.isdisjoint(Outline(page).headings)


def test_loads_of_zero_are_no_division_by_zero():
    idle = method("gimbal", 8, 0.0, 0.0)
    idle["head"]["loads"]["cost"][0] = [0.0] * 8
    page = render(methods=[idle])
    assert figures(page)["after-head"]["data"][0]["x"][0] == 1  # the slot without any work is left out


def test_fill_shares_add_up_to_one():
    drawn = figures(render())["fill-0"]["data"]
    assert [trace["name"] for trace in drawn] == ["gimbal", "ISF (OmniBal)", "random mini-batches"]
    assert all(sum(trace["y"]) == pytest.approx(1, abs=1e-3) for trace in drawn)
    assert drawn[0]["x"][49] == pytest.approx(0.99)


def test_less_important_methods_wait_for_a_click():
    few = [method(name, 100, 0.0, 0.1) for name in ("gimbal", "isf", "bfd", "length", "random")]
    page = render(methods=few)
    hidden = [trace["name"] for trace in figures(page)["fill-0"]["data"] if trace.get("visible") == "legendonly"]
    assert hidden == ["best fit, decreasing", "mini-batches by length"]
    assert "A click on a name shows or hides a method." in page
    assert "A click on a name" not in render()


@pytest.mark.parametrize(("auto", "said"), [(True, "chosen: 16"), (False, "in use: 16")])
def test_cap_curve_marks_the_cap_and_its_spread(auto, said):
    value = sample()
    value["cap_curves"][0]["auto"] = auto
    figure = plot_charts.cap_curve(parse(value, "d").cap_curves[0])
    assert figure["data"][0]["error_y"]["array"] == [3.0] * 7
    assert figure["data"][1]["x"] == [16] and figure["data"][1]["y"] == [1000]
    assert figure["layout"]["annotations"][0]["text"] == said


def test_eight_streams():
    names = [f"s{i}" for i in range(8)]
    one = method("gimbal", 100, 0.0, 0.1)
    for key in ("fill", "waste", "dist_ratio"):
        one[key] = dict.fromkeys(names, 0.1) | ({"cost": 0.1} if key == "waste" else {})
    one["fill_histogram"] = dict.fromkeys(names, one["fill_histogram"]["vision"])
    for part in ("head", "tail"):
        cost = one[part]["loads"]["cost"]
        one[part]["loads"] = dict.fromkeys([*names, "cost"], cost)
    page = render(streams=names, caps=dict.fromkeys(names, 7), methods=[one], cap_curves=[])
    assert {f"fill-{i}" for i in range(8)} <= set(figures(page))


def drop(*path):
    def change(value):
        for key in path[:-1]:
            value = value[key]
        del value[path[-1]]

    return change


def put(item, *path):
    def change(value):
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = item

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(2, "version"), "version 2; this program draws 'gimbal-balance-plot', version 1"),
        (put("else", "format"), "format 'else'"),
        (put([], "methods"), "'methods' is empty"),
        (drop("methods", 0, "packs"), "entry 0 of 'methods': 'packs' must be a number"),
        (put(float("nan"), "methods", 1, "waste", "cost"), "entry 1 of 'methods': 'waste': 'cost' must be a number"),
        (put([[1.0] * 7], "methods", 0, "head", "loads", "cost"), "'cost' must be lists of 8 numbers"),
        (put("x", "sources"), "'sources' must be a list"),
        (put(3, "bound"), "'bound' must be a text"),
        (put([3], "cap_curves"), "entry 0 of 'cap_curves': must be a JSON object"),
    ],
)
def test_what_cannot_be_drawn_is_named(change, said):
    value = sample()
    change(value)
    with pytest.raises(UserError, match=re.escape(said)):
        parse(value, "d.json")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="can't be read"):
        read_plot_data(tmp_path / "absent.json")
    (tmp_path / "half.json").write_text('{"format"')
    with pytest.raises(UserError, match="not JSON"):
        read_plot_data(tmp_path / "half.json")


def run(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "gimbal.balance.plot", *map(str, words)], capture_output=True, text=True, **more
    )


def test_command_writes_the_page_without_torch(tmp_path):
    data, out = tmp_path / "d.json", tmp_path / "out.html"
    data.write_text(json.dumps(sample()))
    code = (
        "import sys, gimbal.balance.plot as p\n"
        f"code = p.main([{str(data)!r}, '--out', {str(out)!r}])\n"
        "sys.exit(code or ('torch' in sys.modules and 7))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_command_reads_a_pipe_and_reports_errors(tmp_path):
    out = tmp_path / "out.html"
    done = run("/dev/stdin", "--out", out, input=json.dumps(sample()))
    assert done.returncode == 0 and out.stat().st_size > 1_000_000, done.stderr
    done = run(tmp_path / "absent.json", "--out", out)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "absent.json" in done.stderr
    done = run("/dev/stdin", "--out", tmp_path / "no_folder" / "out.html", input=json.dumps(sample()))
    assert done.returncode == 2 and "can't be written" in done.stderr

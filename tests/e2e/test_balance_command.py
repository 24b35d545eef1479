"""`gimbal balance` as a user runs it: figures, files and the same result again."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from balance_tool import KEYS, SHARED, balance, figures, read_packs, tiled, write_csv

from gimbal.balance.lengths import ARRAY_FILES, PARQUET_FILES


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """Two sources of 300 and 500 samples, and the sizes of all."""
    folder = tmp_path_factory.mktemp("lengths")
    first, second = tiled(300, 1), tiled(500, 2)
    return [write_csv(folder / "a.csv", "vision,tokens", first), write_csv(folder / "b.csv", "vision,tokens", second)], first + second


CAPS = ["--cap", "vision=16", "--cap", "tokens=5376"]


def test_prints_a_short_table(tmp_path):
    file = write_csv(tmp_path / "a.csv", "tokens", [(5,)] * 4 + [(3,)] * 4)
    ended = balance(file, "--cap", "tokens=8", "--ranks", 2)
    lines = ended.stdout.splitlines()
    assert ended.stderr == ""
    assert lines[0] == "gimbal, caps: tokens 8; 2 ranks; 1 source; seed 0, epoch 0"
    assert lines[1] == "packs    4, lower bound 4 (fast), gap 0.00 %"
    assert lines[2] == "samples  in 8, packed 8, rejected 0"
    assert lines[3].startswith("slots    2 in 2 steps; order correlation 0.000, source mix 1.00")
    assert lines[4].startswith("time     reading ")
    assert [line.split() for line in lines[5:]] == [["tokens", "cost"], ["fill", "100.00", "%"], ["waste", "0.00", "%", "0.00", "%"]]


def test_json_has_the_documented_keys(two_files, tmp_path):
    files, sizes = two_files
    result = figures(*files, *CAPS, "--ranks", 4)
    assert set(result) >= KEYS
    assert result["samples_in"] == result["samples_packed"] + result["samples_rejected"] == len(sizes)
    assert set(result["waste"]) == {"vision", "tokens", "cost"} and set(result["fill"]) == {"vision", "tokens"}
    assert result["packs"] >= result["packs_lower_bound"] >= max(sum(s[0] for s in sizes) / 16, sum(s[1] for s in sizes) / 5376)
    assert result["fill"]["tokens"] == pytest.approx(sum(s[1] for s in sizes) / (result["packs"] * 5376))
    assert result["slots"] == -(-result["packs"] // 4)
    assert result["gap"] == pytest.approx(result["packs"] / result["packs_lower_bound"] - 1)
    assert result["total_seconds"] >= result["pack_seconds"] > 0 and result["peak_bytes"] > 0
    balance(*files, *CAPS, "--ranks", 4, "--json", tmp_path / "out.json")
    same = json.loads((tmp_path / "out.json").read_text())
    timed = {key for key in same if key.endswith("_seconds")} | {"peak_bytes"}
    assert {k: v for k, v in same.items() if k not in timed} == {k: v for k, v in result.items() if k not in timed}


def test_packs_file_holds_every_sample_once_within_the_caps(two_files, tmp_path):
    files, sizes = two_files
    out = tmp_path / "packs.bin"
    result = figures(*files, *CAPS, "--ranks", 4, "--accumulate", 3, "--seed", 7, "--epoch", 2, "--packs", out)
    file = read_packs(out)
    assert (file.num_samples, file.packs_per_step, file.packs_per_slot, file.seed, file.epoch) == (len(sizes), 12, 4, 7, 2)
    assert sorted(sample for pack in file.packs for sample in pack) == list(range(len(sizes)))
    assert len(file.packs) == result["packs"] and result["steps"] == -(-len(file.packs) // 12)
    loads = np.array([[sum(sizes[i][k] for i in pack) for k in (0, 1)] for pack in file.packs])
    assert (loads <= [16, 5376]).all()
    full = loads[: len(loads) // 4 * 4].reshape(-1, 4, 2)
    waste = (1 - full.mean(axis=1) / full.max(axis=1)).mean(axis=0)
    assert waste == pytest.approx([result["waste"]["vision"], result["waste"]["tokens"]])


def test_same_seed_and_epoch_give_the_same_packs(two_files, tmp_path):
    files, _ = two_files

    def packs(*words):
        balance(*files, *CAPS, "--packs", tmp_path / "packs.bin", *words)
        return read_packs(tmp_path / "packs.bin").packs

    first = packs()
    assert packs() == first
    assert packs("--seed", 1) != first and packs("--epoch", 1) != first


@pytest.mark.parametrize("method", ["gimbal", "isf", "bfd"])
def test_methods_keep_to_all_kinds_of_caps(two_files, tmp_path, method):
    files, sizes = two_files
    costs = ["--cost", "vision=100", "--cost", "tokens=1,1e-4", "--cap-cost", 6000]
    result = figures(*files, *CAPS, *costs, "--samples-per-pack", 3, "--method", method, "--packs", tmp_path / "p")
    assert result["method"] == method and result["samples_packed"] == len(sizes)
    for pack in read_packs(tmp_path / "p").packs:
        assert 1 <= len(pack) <= 3
        assert sum(sizes[i][0] * 100 + sizes[i][1] + 1e-4 * sizes[i][1] ** 2 for i in pack) <= 6000 * (1 + 1e-9)
    assert result["cap_cost"] == 6000 and result["cap_samples"] == 3


@pytest.mark.parametrize("method", ["random", "length"])
def test_mini_batches_have_a_fixed_number_of_samples(two_files, tmp_path, method):
    files, sizes = two_files
    result = figures(*files, "--samples-per-pack", 7, "--method", method, "--packs", tmp_path / "p")
    lengths = Counter(len(pack) for pack in read_packs(tmp_path / "p").packs)
    assert lengths == {7: len(sizes) // 7, len(sizes) % 7: 1}
    assert result["gap"] is None and result["pad_ratio"] > 0 and result["fill"] == {"vision": None, "tokens": None}
    # Without a number they are as large as gimbal's packs.
    mean = len(sizes) / figures(*files, *CAPS)["packs"]
    assert figures(*files, *CAPS, "--method", method)["packs"] == -(-len(sizes) // round(mean))


def test_rounds_are_those_of_isf(two_files):
    files, _ = two_files
    packs = [figures(*files, *CAPS, "--method", "isf", "--rounds", rounds)["packs"] for rounds in (0, 1, 50)]
    assert len(set(packs)) > 1


def test_compare_shows_all_methods(two_files):
    files, sizes = two_files
    result = figures(*files, *CAPS, "--ranks", 4, "--compare")
    methods = {entry["method"]: entry for entry in result["methods"]}
    assert list(methods) == ["gimbal", "isf", "bfd", "length", "random"]
    assert all(entry["samples_packed"] == len(sizes) for entry in methods.values())
    assert methods["gimbal"]["packs"] == result["packs"] <= min(methods["isf"]["packs"], methods["bfd"]["packs"])
    assert methods["random"]["pad_ratio"] > methods["length"]["pad_ratio"] > 0 == methods["gimbal"]["pad_ratio"]
    assert methods["gimbal"]["waste"]["cost"] < methods["isf"]["waste"]["cost"] < methods["random"]["waste"]["cost"]
    table = balance(*files, *CAPS, "--ranks", 4, "--compare", "--method", "isf").stdout
    rows = {line.split("  ")[0]: line.split("  ")[1:] for line in table.splitlines()}
    assert table.startswith("isf, caps")
    assert [name.strip() for name in rows["method"] if name] == ["isf", "gimbal", "bfd", "length", "random"]
    assert {"gap", "fill vision", "pad ratio", "dist tokens", "waste cost", "order corr.", "source mix", "seconds"} <= set(rows)


def test_sources_are_drawn_by_weight(two_files, tmp_path):
    files, sizes = two_files
    result = figures(*files, *CAPS, "--source", "a=2", "--source", "b=0", "--packs", tmp_path / "p")
    assert [(s["name"], s["samples"], s["drawn"], s["weight"]) for s in result["sources"]] == [("a", 300, 600, 2.0), ("b", 500, 0, 0.0)]
    assert result["samples_in"] == 600
    counts = Counter(sample for pack in read_packs(tmp_path / "p").packs for sample in pack)
    assert counts == {sample: 2 for sample in range(300)}
    half = figures(*files, *CAPS, "--source", "b=0.5")
    assert half["sources"][1]["drawn"] == half["samples_in"] - 300 and 200 < half["sources"][1]["drawn"] < 300


def test_samples_above_a_cap(tmp_path):
    file = write_csv(tmp_path / "a.csv", "vision,tokens", [(1, 100), (9, 100), (1, 700), (2, 200)])
    caps = [file, "--cap", "vision=4", "--cap", "tokens=500"]
    message = balance(*caps, code=2).stderr
    assert "a.csv line 3" in message and "a.csv line 4" in message and "9 vision" in message and "--oversize" in message
    result = figures(*caps, "--oversize", "reject", "--rejected", tmp_path / "rejected.jsonl", "--packs", tmp_path / "p")
    assert (result["samples_in"], result["samples_packed"], result["samples_rejected"]) == (4, 2, 2)
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(line["sample"], line["source"]) for line in lines] == [(1, "a"), (2, "a")]
    assert lines[0]["place"].endswith("a.csv line 3") and "9 vision" in lines[0]["reason"] and "700 tokens" in lines[1]["reason"]
    assert sorted(sum(read_packs(tmp_path / "p").packs, [])) == [0, 3]
    result = figures(*caps, "--oversize", "alone", "--packs", tmp_path / "p")
    assert (result["samples_packed"], result["samples_rejected"], result["samples_alone"]) == (4, 0, 2)
    assert sorted(map(sorted, read_packs(tmp_path / "p").packs)) == [[0, 3], [1], [2]]
    # Nothing to reject: the list is there, and empty.
    figures(file, "--cap", "tokens=900", "--oversize", "reject", "--rejected", tmp_path / "rejected.jsonl")
    assert (tmp_path / "rejected.jsonl").read_text() == ""
    # The list is of the methods with caps, also beside one that packs every sample.
    both = ["--oversize", "reject", "--compare", "--method", "random", "--rejected", tmp_path / "rejected.jsonl"]
    assert figures(*caps, *both)["samples_packed"] == 4
    assert [json.loads(line)["sample"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()] == [1, 2]


def test_the_bound_is_of_what_the_methods_with_caps_pack(two_files, tmp_path):
    files, sizes = two_files
    words = [*files, "--cap", "tokens=1000", "--oversize", "reject", "--compare", "--bound", "lp"]
    large = sum(size[1] > 1000 for size in sizes)
    results = {method: figures(*words, "--method", method) for method in ("gimbal", "isf", "random", "length")}
    assert 0 < large < len(sizes) and len({result["packs_lower_bound"] for result in results.values()}) == 1
    for method, result in results.items():
        assert result["samples_packed"] == len(sizes) - (0 if method in ("random", "length") else large)
        gaps = {entry["method"]: entry["gap"] for entry in result["methods"]}
        assert gaps.pop("random") is None and gaps.pop("length") is None
        assert len(gaps) == 3 and min(gaps.values()) >= 0
    table = balance(*words, "--method", "random").stdout
    assert "lower bound -, caps do not apply to this method" in table.splitlines()[1]
    assert f"lower bound of the methods that keep to the caps: {results['random']['packs_lower_bound']} (" in table
    alone = figures(*files, "--cap", "tokens=1000", "--method", "random")
    assert (alone["packs_lower_bound"], alone["bound"]) == (None, {"fast": None, "lp": None})


def test_mini_batches_hold_what_is_above_a_cap(tmp_path):
    file = write_csv(tmp_path / "a.csv", "tokens", [(10,)] * 8 + [(900,)] * 2)
    result = figures(file, "--cap", "tokens=40", "--method", "random")
    # Gimbal has 2 packs of 4 and 2 of 1, so 3 samples of 10 in each mini-batch.
    assert (result["samples_packed"], result["packs"], result["samples_rejected"]) == (10, 4, 0)
    page = tmp_path / "out.html"
    chosen = ["--cap", "tokens=40", "--oversize", "reject", "--method", "isf", "--plot", page]
    assert figures(file, *chosen)["samples_packed"] == 8 and page.exists()


def test_the_bound_is_named_after_the_larger_one(tmp_path):
    # By volume 1.02 packs, so 2; the LP's patterns need fewer, which is no stop.
    few = [write_csv(tmp_path / "few.csv", "tokens", [(60,), (30,), (12,)]), "--cap", "tokens=100", "--bound", "lp"]
    result = figures(*few)
    assert result["packs_lower_bound"] == 2 and result["bound"]["lp"]["complete"] and result["bound"]["lp"]["end"] != "stopped"
    ended = balance(*few)
    assert "lower bound 2 (fast), gap 0.00 %" in ended.stdout and ended.stderr == ""
    shared = [*SHARED, "--cap", "vision=20", "--cap", "tokens=5824", "--bound", "lp"]
    bound = figures(*shared)["bound"]
    assert bound["lp"]["packs"] > bound["fast"] and "(lp)" in balance(*shared).stdout.splitlines()[1]


def test_patterns_are_kept_in_a_file(tmp_path):
    words = [*SHARED, *CAPS, "--patterns", tmp_path / "patterns.json", "--packs", tmp_path / "packs.bin"]
    first = figures(*words)
    packs = (tmp_path / "packs.bin").read_bytes()
    kept = (tmp_path / "patterns.json").read_bytes()
    second = figures(*words)
    assert (first["patterns"]["loaded"], second["patterns"]["loaded"]) == (False, True)
    assert first["patterns"]["patterns"] == second["patterns"]["patterns"] > 0
    assert (tmp_path / "packs.bin").read_bytes() == packs and (tmp_path / "patterns.json").read_bytes() == kept
    few = write_csv(tmp_path / "few.csv", "vision,tokens", tiled(50))
    warned = balance(few, *CAPS, "--patterns", tmp_path / "patterns.json")
    assert "solved for 40941 samples and the epoch packs 50" in warned.stderr
    none = balance(few, *CAPS, "--patterns", tmp_path / "none.bin")
    assert none.stderr == "" and figures(few, *CAPS, "--patterns", tmp_path / "none.bin")["patterns"]["loaded"]
    other = balance(*SHARED, "--cap", "vision=20", "--cap", "tokens=5824", "--patterns", tmp_path / "patterns.json")
    assert "is for other caps" in other.stderr and (tmp_path / "patterns.json").read_bytes() != kept
    (tmp_path / "patterns.json").write_bytes(kept[:-3])
    assert "patterns.json" in balance(*words, code=2).stderr


@pytest.mark.parametrize("words", [["--source", "docvqa_10k=0.5"], ["--oversize", "reject"], ["--oversize", "alone"]])
def test_patterns_are_for_what_is_drawn_and_packed_together(tmp_path, words):
    large = write_csv(tmp_path / "large.csv", "vision,tokens", [(9, 9000)] * 800)
    files = [*SHARED, *([large] if "--oversize" in words else [])]
    words = [*files, *CAPS, *words, "--patterns", tmp_path / "patterns.json"]
    assert figures(*words)["patterns"]["used"]
    for epoch in (0, 3):
        again = balance(*words, "--epoch", epoch, "--json", tmp_path / "again.json")
        assert json.loads((tmp_path / "again.json").read_text())["patterns"]["loaded"] and again.stderr == ""


def test_a_cap_can_be_chosen(two_files):
    files, sizes = two_files
    result = figures(*files, "--cap", "tokens=5376", "--cap", "vision=auto", "--ranks", 4)
    search = result["cap_search"]
    best = min(search["points"], key=lambda point: point["cost_per_sample"])
    assert search["stream"] == "vision" and search["auto"] and result["caps"] == {"vision": search["cap"], "tokens": 5376}
    chosen = next(point for point in search["points"] if point["cap"] == search["cap"])
    assert chosen["cost_per_sample"] <= best["cost_per_sample"] * 1.001 + 1e-12
    assert "(chosen)" in balance(*files, "--cap", "tokens=5376", "--cap", "vision=auto").stdout.splitlines()[0]
    dear = figures(*files, "--cap", "tokens=5376", "--cap", "vision=auto", "--pack-overhead", 3)["cap_search"]
    assert dear["pack_overhead"] == 3 and dear["points"] != search["points"]
    memory = ["--memory", "64MiB", "--bytes-per-row", "vision=1M", "--bytes-per-row", "tokens=4KB"]
    caps = figures(*files, "--cap", "vision=auto", *memory)["caps"]
    assert caps["vision"] * 2**20 + caps["tokens"] * 4096 <= 64 * 2**20 and caps["vision"] >= 5


def test_costs_come_from_words_a_file_or_a_model(two_files, tmp_path):
    files, _ = two_files
    words = [*files, *CAPS]
    assert figures(*words)["costs"] == {"vision": {"per_row": 1 / 16, "per_pair": 0}, "tokens": {"per_row": 1 / 5376, "per_pair": 0}}
    given = figures(*words, "--cost", "tokens=2,0.5", "--cost", "vision=3")["costs"]
    assert given == {"vision": {"per_row": 3, "per_pair": 0}, "tokens": {"per_row": 2, "per_pair": 0.5}}
    (tmp_path / "costs.json").write_text(json.dumps({"streams": given}))
    assert figures(*words, "--costs", tmp_path / "costs.json")["costs"] == given
    config = {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "vocab_size": 1000}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = write_csv(tmp_path / "text.csv", "tokens", [(5,), (7,)])
    assert figures(text, "--cap", "tokens=12", "--model", tmp_path)["costs"]["tokens"]["per_row"] > 1000


def test_pairs_count_in_the_cost(tmp_path):
    rows = [(4, 16), (4, 4), (4, 16), (4, 4)]
    costs = ["--cap", "vision=4", "--cost", "vision=0,1", "--ranks", 2]
    with_pairs = figures(write_csv(tmp_path / "a.csv", "vision,vision.pairs", rows), *costs)
    assert with_pairs["streams"] == ["vision"]
    assert with_pairs["waste"] == {"vision": 0, "cost": 0}  # 16 beside 16 and 4 beside 4
    one_slot = figures(write_csv(tmp_path / "b.csv", "vision,vision.pairs", rows[:2]), *costs)
    assert one_slot["waste"] == {"vision": 0, "cost": pytest.approx(1 - 10 / 16)}


def test_other_kinds_of_input_give_the_same_packs(two_files, tmp_path):
    files, sizes = two_files
    rows = np.array(sizes, dtype=np.int64)
    table = pa.table({"tokens": rows[:300, 1], "vision": rows[:300, 0]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    balance(*files, *CAPS, "--packs", tmp_path / "csv")
    balance(tmp_path / "a.parquet", files[1], "--cap", "vision=16", "--cap", "tokens=5376", "--packs", tmp_path / "mixed")
    assert sorted(sum(read_packs(tmp_path / "mixed").packs, [])) == list(range(800))
    mixed = figures(files[1], tmp_path / "a.parquet", *CAPS)
    assert mixed["streams"] == ["vision", "tokens"] and [s["samples"] for s in mixed["sources"]] == [500, 300]
    # The columns of a file without names take over those of the file before it.
    other = write_csv(tmp_path / "c.csv", "vision,tokens", sizes[:300])
    pa.parquet.write_table(table.select(["vision", "tokens"]), tmp_path / "c.parquet")
    balance(other, *CAPS, "--packs", tmp_path / "one")
    balance(tmp_path / "c.parquet", *CAPS, "--packs", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    # All endings, in any case.
    np.savez(tmp_path / "c.npz", vision=rows[:300, 0], tokens=rows[:300, 1])
    for ending in (*ARRAY_FILES, *PARQUET_FILES, ".PARQUET"):
        same = tmp_path / f"d{ending}"
        if ending == ".npy":
            np.save(same, rows[:300])
        else:
            same.write_bytes((tmp_path / ("c.npz" if ending == ".npz" else "c.parquet")).read_bytes())
        names = ("stream0", "stream1") if ending == ".npy" else ("vision", "tokens")
        balance(same, "--cap", f"{names[0]}=16", "--cap", f"{names[1]}=5376", "--packs", tmp_path / "two")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes(), ending
    message = balance(tmp_path / "a.parquet", *CAPS, code=2, python="/no/python").stderr
    assert "GIMBAL_PYTHON" in message


def test_a_dataset_folder(data, tmp_path):
    result = figures(data, "--cap", "text=192", "--ranks", 2, "--packs", tmp_path / "p")
    assert result["streams"] == ["text", "vision"] and result["samples_in"] == 60
    assert [source["name"] for source in result["sources"]] == ["colours"]
    assert sorted(sum(read_packs(tmp_path / "p").packs, [])) == list(range(60))


def test_extreme_inputs(tmp_path):
    empty = figures(write_csv(tmp_path / "none.csv", "vision,tokens", []), *CAPS, "--packs", tmp_path / "p")
    assert (empty["samples_in"], empty["packs"], empty["packs_lower_bound"]) == (0, 0, 0) and read_packs(tmp_path / "p").packs == []
    page = tmp_path / "out.html"
    small = write_csv(tmp_path / "small.csv", "vision,tokens", [(9, 9), (8, 8)])
    for words in (
        [tmp_path / "none.csv", *CAPS],
        [small, "--cap", "vision=2", "--cap", "tokens=2", "--oversize", "reject"],
        [small, *CAPS, "--source", "small=0"],
    ):
        nothing = figures(*words, "--compare", "--plot", page, "--bound", "lp")
        padded = {"random", "length"} if "reject" in words else set()
        assert [bool(entry["packs"]) for entry in nothing["methods"]] == [entry["method"] in padded for entry in nothing["methods"]]
        assert nothing["packs_lower_bound"] == 0 and "<html" in page.read_text()
        page.unlink()
    one = figures(write_csv(tmp_path / "one.csv", "tokens", [(3,)]), "--cap", "tokens=3", "--bound", "lp", "--compare", "--plot", page)
    assert (one["packs"], one["packs_lower_bound"], one["fill"]) == (1, 1, {"tokens": 1.0})
    large = write_csv(tmp_path / "large.csv", "a,b", [(2**32 - 1, 0)] * 9)
    assert figures(large, "--cap", f"a={2**32 - 1}")["packs"] == 9
    assert figures(large, "--cap", f"a={2**63}")["packs"] == 1
    eight = write_csv(tmp_path / "eight.csv", "a,b,c,d,e,f,g,h", [(1, 0, 2, 0, 3, 0, 4, 5)] * 20)
    assert figures(eight, *[word for name in "abcdefgh" for word in ("--cap", f"{name}=10")])["packs"] == 10


# At (9, 4096) most packs are one sample, so alike packs come from one source: see docs/balance.md.
@pytest.mark.parametrize(
    ("vision", "tokens", "most", "bound", "mix"),
    [(9, 4096, 27283, 27150, 2.5), (16, 5376, 10378, 10300, 1.2), (20, 5824, 8369, 8200, 1.2)],
)
def test_the_shared_lengths(vision, tokens, most, bound, mix):
    result = figures(*SHARED, "--cap", f"vision={vision}", "--cap", f"tokens={tokens}", "--ranks", 8, "--bound", "lp")
    assert bound <= result["packs_lower_bound"] <= result["packs"] <= most
    assert result["samples_packed"] == result["samples_in"] == 40941
    assert all(waste <= 0.001 for waste in result["waste"].values())
    assert abs(result["order_correlation"]) < 0.05 and result["source_mix_ratio"] <= mix
    assert result["bound"]["lp"]["packs"] >= result["bound"]["fast"]


def test_plot_is_one_page_without_network(two_files, tmp_path):
    files, _ = two_files
    ended = balance(*files, *CAPS, "--ranks", 4, "--plot", tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text()
    assert ended.stdout.startswith("gimbal, caps") and "<html" in page
    assert "random" in page and not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=\"?http", page)


def test_a_page_goes_without_a_curve_that_the_data_do_not_give(tmp_path):
    for name, rows in (("blind", [(0, 10)] * 20), ("text", [(5, 0)] * 20), ("none", [(0, 0)] * 20)):
        page = tmp_path / f"{name}.html"
        file = write_csv(tmp_path / f"{name}.csv", "vision,tokens", rows)
        balance(file, "--cap", "vision=16", "--cap", "tokens=100", "--plot", page)
        assert "<html" in page.read_text()


def test_help_shows_every_option_and_examples():
    text = balance("--help").stdout
    for word in ("--cap", "--ranks", "--method", "--bound", "--source", "--compare", "--plot", "--packs", "--json", "Examples:"):
        assert word in text

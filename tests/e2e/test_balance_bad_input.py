"""What a user can get wrong with `gimbal balance`: exit code 2, no result, and a message that says what to do."""

from __future__ import annotations

import json

import pytest
from balance_tool import refused, write_csv

CAP = ["--cap", "tokens=100"]


@pytest.fixture()
def file(tmp_path):
    return write_csv(tmp_path / "a.csv", "vision,tokens", [(1, 10), (2, 20), (3, 30)])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--cap", "audio=5"], ["--cap audio", "no stream 'audio'", "vision, tokens"]),
        (["--cap", "token=5"], ["did you mean tokens?"]),
        ([], ["no cap is given", "--cap"]),
        (["--cap", "tokens"], ["--cap", "'tokens'", "NAME=ROWS"]),
        (["--cap", "tokens="], ["NAME=ROWS"]),
        (["--cap", "=5"], ["NAME=ROWS"]),
        (["--cap", "tokens=0"], ["--cap tokens", "'0'", "a whole number from 1"]),
        (["--cap", "tokens=-5"], ["'-5'", "a whole number from 1"]),
        (["--cap", "tokens=1.5"], ["'1.5'", "a whole number"]),
        (["--cap", f"tokens={2**63 + 1}"], ["a whole number from 1 to 9223372036854775808"]),
        (["--cap", "tokens=5", "--cap", "tokens=6"], ["--cap tokens", "twice"]),
        (["--cap", "tokens=auto", "--cap", "vision=auto"], ["more than one cap is auto"]),
        (["--cap", "vision=auto"], ["vision", "the cap of another stream"]),
        ([*CAP, "--cap-cost", "nan"], ["--cap-cost", "'nan'", "a number"]),
        ([*CAP, "--cap-cost", "0"], ["--cap-cost", "a number above 0"]),
        ([*CAP, "--cap-cost", "5"], ["--cap-cost", "--cost NAME=PER_ROW"]),
        ([*CAP, "--cost", "tokens=nan", "--cost", "vision=1"], ["--cost tokens", "'nan'"]),
        ([*CAP, "--cost", "tokens=-1", "--cost", "vision=1"], ["--cost tokens", "'-1'", "at least 0"]),
        ([*CAP, "--cost", "tokens=1,inf", "--cost", "vision=1"], ["--cost tokens", "'inf'"]),
        ([*CAP, "--cost", "tokens=1"], ["give the cost of vision as well"]),
        ([*CAP, "--cost", "tokens=1", "--cost", "tokens=2"], ["--cost tokens", "twice"]),
        ([*CAP, "--cost", "audio=1"], ["no stream 'audio'"]),
        ([*CAP, "--cost", "tokens"], ["NAME=PER_ROW"]),
        ([*CAP, "--cost", "tokens=1", "--costs", "x.json"], ["--cost"]),
        ([*CAP, "--costs", "no.json"], ["no.json", "cannot read"]),
        ([*CAP, "--model", "no_model"], ["no_model"]),
        ([*CAP, "--source", "c=1"], ["--source c", "no source 'c'", "it has a"]),
        ([*CAP, "--source", "a"], ["NAME=WEIGHT"]),
        ([*CAP, "--source", "a=-1"], ["--source a", "'-1'"]),
        ([*CAP, "--source", "a=nan"], ["--source a", "'nan'"]),
        ([*CAP, "--source", "a=1", "--source", "a=2"], ["--source a", "twice"]),
        ([*CAP, "--ranks", "0"], ["--ranks", "a whole number from 1"]),
        ([*CAP, "--accumulate", "0"], ["--accumulate", "a whole number from 1"]),
        ([*CAP, "--accumulate", "1.5"], ["--accumulate", "'1.5'"]),
        ([*CAP, "--samples-per-pack", "0"], ["--samples-per-pack"]),
        ([*CAP, "--seed", "-1"], ["--seed", "'-1'"]),
        ([*CAP, "--epoch", "x"], ["--epoch", "'x'"]),
        ([*CAP, "--rounds", "3"], ["--rounds", "--method isf"]),
        ([*CAP, "--method", "isf", "--rounds", "-1"], ["--rounds", "'-1'"]),
        ([*CAP, "--method", "gimbl"], ["--method", "'gimbl'", "did you mean gimbal?"]),
        ([*CAP, "--bound", "best"], ["--bound", "'best'", "fast, lp"]),
        ([*CAP, "--oversize", "drop"], ["--oversize", "error, reject, alone"]),
        ([*CAP, "--memory", "1G"], ["--memory", "--cap NAME=auto"]),
        ([*CAP, "--cap", "vision=auto", "--memory", "x"], ["--memory", "'x'"]),
        ([*CAP, "--cap", "vision=auto", "--memory", "-1G"], ["--memory", "'-1G'", "above 0"]),
        ([*CAP, "--cap", "vision=auto", "--memory", "80B"], ["--memory: found '80B'", "512M, 512MB or 512MiB"]),
        ([*CAP, "--cap", "vision=auto", "--memory", "1Gi"], ["--memory: found '1Gi'"]),
        ([*CAP, "--cap", "vision=auto", "--memory", "GiB"], ["--memory: found 'GiB'"]),
        ([*CAP, "--cap", "vision=auto", "--memory", "1G"], ["--bytes-per-row vision=BYTES"]),
        ([*CAP, "--cap", "vision=auto", "--memory", "1G", "--bytes-per-row", "vision"], ["NAME=BYTES"]),
        ([*CAP, "--cap", "vision=auto", "--bytes-per-row", "vision=5"], ["--bytes-per-row", "--memory"]),
        ([*CAP, "--pack-overhead", "1"], ["--pack-overhead", "--cap NAME=auto"]),
        ([*CAP, "--cap", "vision=auto", "--pack-overhead", "nan"], ["--pack-overhead", "'nan'"]),
        ([*CAP, "--method", "bfd", "--patterns", "p.bin"], ["--patterns", "--method gimbal"]),
        ([*CAP, "--json", "no_folder/out.json"], ["--json", "no folder no_folder"]),
        ([*CAP, "--packs", "no_folder/p"], ["--packs", "no folder no_folder"]),
        ([*CAP, "--plot", "no_folder/p"], ["--plot", "no folder no_folder"]),
        ([*CAP, "--patterns", "no_folder/p"], ["--patterns", "no folder no_folder"]),
        ([*CAP, "--rejected", "no_folder/p", "--oversize", "reject"], ["--rejected", "no folder no_folder"]),
        ([*CAP, "--rejected", "p"], ["--rejected", "--oversize reject"]),
        ([*CAP, "--rejected", "p", "--oversize", "alone"], ["--rejected", "--oversize reject"]),
        ([*CAP, "--method", "random", "--oversize", "reject"], ["--oversize", "--method random", "packs every sample"]),
        ([*CAP, "--method", "length", "--samples-per-pack", "2", "--oversize", "error"], ["--oversize", "--method length"]),
        ([*CAP, "--method", "random", "--bound", "lp"], ["--bound", "--method random", "leave it out"]),
        ([*CAP, "--plot", "p", "--pack-overhead", "1"], ["--pack-overhead", "two limits"]),
        (["--samples-per-pack", "2", "--cap-cost", "9", "--cost", "vision=1", "--cost", "tokens=1", "--plot", "p", "--pack-overhead", "1"],
         ["--pack-overhead", "--cap NAME=auto"]),
        ([*CAP, "--colour", "red"], ["--colour", "gimbal balance --help"]),
        (["--cap", "tokens=15"], ["a.csv line 3", "a.csv line 4", "20 tokens", "--oversize reject on the command line"]),
        (["--cap", "tokens=15", "--method", "random", "--compare"], ["a.csv line 3", "20 tokens"]),
    ],
)
def test_options(file, words, parts):
    message = refused(file, *words)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("vision,tokens\n1,10\n2,-20\n", "a.csv:3: column tokens: found '-20', expected a whole number from 0 to 4294967295"),
        ("vision,tokens\n1.5,10\n", "a.csv:2: column vision: found '1.5', expected a whole number"),
        ("vision,tokens\n1,10\n1,ten\n", "a.csv:3: column tokens: found 'ten'"),
        ("vision,tokens\n1\n", "a.csv:2: has 1 field, expected 2 (vision,tokens)"),
        ("vision,tokens\n1,2,3\n", "a.csv:2: has 3 fields, expected 2"),
        ("vision,tokens\n1,2\n\n3,4\n", "a.csv:3: the line is empty"),
        ("1,10\n2,20\n", "a.csv:1: '1' cannot name a stream"),
        ("tokens,tokens\n1,2\n", "a.csv:1: column tokens occurs twice"),
        ("", "a.csv: is empty"),
        ("vision,tokens\n1,4294967296\n", "a.csv:2: column tokens: found '4294967296'"),
        ("cost,tokens\n1,4\n", "a stream named 'cost'"),
    ],
)
def test_malformed_files(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    assert message in refused(tmp_path / "a.csv", *CAP)


def test_inputs_that_are_none(tmp_path, file):
    assert "none.csv: no such file" in refused(tmp_path / "none.csv", *CAP)
    assert "without manifest.json" in refused(tmp_path, *CAP)
    assert "FILES" in refused(*CAP)
    for ending in (".npy", ".npz", ".pq", ".Parquet", ".NPY"):
        (tmp_path / f"bad{ending}").write_text("tokens\n5\n")
        assert "not readable as" in refused(tmp_path / f"bad{ending}", *CAP)
    other = write_csv(tmp_path / "b.csv", "vision,text", [(1, 2)])
    assert "b.csv:1: names the streams vision,text" in refused(file, other, *CAP)
    (tmp_path / "bad.parquet").write_text("no table")
    assert "bad.parquet" in refused(tmp_path / "bad.parquet", *CAP)


def test_a_dataset_folder_stands_alone(data, file):
    assert "given alone" in refused(file, data, "--cap", "text=192")


def test_cost_files_are_checked(tmp_path, file):
    for content in ({"streams": {"tokens": {"per_row": 1}}}, {"streams": {"tokens": {"per_row": 1}, "vision": {"per_row": -1}}}, []):
        (tmp_path / "costs.json").write_text(json.dumps(content))
        assert "costs.json" in refused(file, *CAP, "--costs", tmp_path / "costs.json")

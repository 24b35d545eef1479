import json

import pytest
from gimbal import UserError
from gimbal.demo import main as demo_main
from gimbal.demo import steps
from gimbal.demo.transformers_check import agreement, answers, read_questions, same_answer
from gimbal.report.metrics import parse_metrics


def metrics(*records):
    return parse_metrics(json.dumps({"kind": "train", **record}) for record in records)


def test_speed_is_all_tokens_over_all_seconds():
    made = metrics({"step": 1, "tokens": 10, "step_seconds": 9.0}, {"step": 2, "tokens": 100, "step_seconds": 1.0},
                   {"step": 3, "tokens": 300, "step_seconds": 1.0})
    assert steps.tokens_per_second(made, skip=1) == 200.0
    with pytest.raises(UserError, match="only 3 logged steps; 4 are needed"):
        steps.tokens_per_second(made, skip=3)


def test_training_time_is_that_of_the_last_step():
    assert steps.train_seconds(metrics({"step": 1, "elapsed_seconds": 2.0}, {"step": 2, "elapsed_seconds": 3.5})) == 3.5
    with pytest.raises(UserError, match="no training step"):
        steps.train_seconds(metrics())


def fake_gimbal(tmp_path, monkeypatch, body):
    (tmp_path / "gimbal").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "gimbal").chmod(0o755)
    monkeypatch.setenv("GIMBAL_BIN", str(tmp_path))


def test_commands_print_to_stderr_only_and_must_succeed(tmp_path, monkeypatch, capfd):
    fake_gimbal(tmp_path, monkeypatch, 'echo "got $@"; exit $2')
    steps.gimbal("train", "0")
    seen = capfd.readouterr()
    assert seen.out == "" and "got train 0" in seen.err
    with pytest.raises(UserError, match="`gimbal train 7` ended with exit code 7"):
        steps.gimbal("train", "7")


def test_batching_is_compared_by_measured_tokens_per_second(tmp_path, monkeypatch):
    # A made-up trainer: balanced steps take 1 s, random ones 1.5 s.
    body = """
for word in "$@"; do case $word in
  balance.method=random) seconds=1.5;; balance.method=gimbal) seconds=1.0;; train.run=*) run=${word#train.run=};;
esac; done
mkdir -p "$run"
for step in 1 2 3 4 5; do echo "{\\"kind\\":\\"train\\",\\"step\\":$step,\\"tokens\\":60,\\"step_seconds\\":$seconds}"; done > "$run/metrics.jsonl"
echo "$@" >> log"""
    fake_gimbal(tmp_path, monkeypatch, body)
    monkeypatch.chdir(tmp_path)
    assert steps.compare_batching(tmp_path / "r.yaml", tmp_path / "runs", 2, 5, 8, ["train.seed=4"]) == 1.5
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 4 and all("--nproc 2 train.seed=4" in line for line in lines)
    assert ["balance.samples_per_pack=8" in line for line in lines] == [True, False, False, True]


def test_result_line_is_json_with_short_numbers(capsys):
    steps.result_line(exact_match=0.98611111, report="x.html")
    assert json.loads(capsys.readouterr().out) == {"exact_match": 0.98611, "report": "x.html"}


def test_same_answer():
    assert same_answer({"reference": [5], "predicted": [5]}, [5])
    assert not same_answer({"reference": [5], "predicted": [5]}, [5, 6])
    assert not same_answer({"reference": [5], "predicted": [4]}, [5])
    # Cut by the evaluation where it became longer than the reference.
    assert same_answer({"reference": [5], "predicted": [5, 6]}, [5, 6, 7])
    assert not same_answer({"reference": [5], "predicted": [5, 6]}, [5, 7, 7])


def test_unknown_demo():
    with pytest.raises(UserError, match="no demo 'cats'"):
        demo_main.main(["cats"])


def test_transformers_answers_questions_of_different_length(tmp_path):
    import torch
    from gimbal.demo import digits_data
    from gimbal.demo.model_folder import make_model_folder
    from PIL import Image
    from transformers import AutoConfig, InternVLForConditionalGeneration

    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus = [f"user\n{question}\nassistant\n" for question, _ in digits_data.QUESTIONS]
    folder = make_model_folder(tmp_path / "model", corpus=corpus, vocab_size=300, sizes={"text.num_layers": 1, "vision.num_layers": 1})
    network = InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).eval()
    network.save_pretrained(folder)
    for number in range(4):
        Image.new("RGB", (20 + number, 20), (60 * number, 10, 10)).save(tmp_path / f"{number}.png")
    scans = [digits_data.Scan(number, number, f"{number}.png") for number in range(4)]
    digits_data.write_jsonl(tmp_path / "q.jsonl", digits_data.held_out_questions(scans))
    questions = read_questions(tmp_path / "q.jsonl")
    together = answers(folder, questions, tmp_path, max_new_tokens=3)
    alone = [answers(folder, [question], tmp_path, max_new_tokens=3, batch=1)[0] for question in questions]
    assert together == alone and any(together)
    rows = [{"sample": i, "span": 0, "reference": [1] * 9, "predicted": ids} for i, ids in enumerate(together)]
    rows[2]["predicted"] = [0, 1]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    # One differs, one is missing.
    assert agreement(folder, questions, tmp_path, tmp_path / "p.jsonl", max_new_tokens=3) == 0.5

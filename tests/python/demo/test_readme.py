"""The README's sections "Your own data and model" and "Several processes" work as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def script_of(title: str) -> str:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"## {title}", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```sh\n(.*?)```", section, re.S).group(1)


def own_data_script() -> str:
    return script_of("Your own data and model")


def run_script(script: str, folder: Path) -> str:
    """What it prints."""
    # The whole environment: a Python finds its packages by the folder that it is called in.
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_section_is_short_and_names_existing_pictures(tmp_path):
    from gimbal.demo import digits_data

    script = own_data_script()
    assert len(script.splitlines()) <= 20
    written = {scan.file for scan in digits_data.write_pictures(tmp_path / "pictures")}
    named = set(re.findall(r"data/demo/digits/(pictures/[\w.]+)", script))
    assert named and named <= written


@pytest.mark.slow
def test_section_runs(tmp_path):
    import torch
    from gimbal.demo import digits_data
    from gimbal.demo.model_folder import make_model_folder
    from transformers import AutoConfig, InternVLForConditionalGeneration

    torch.set_num_threads(1)
    digits_data.write_pictures(tmp_path / "data/demo/digits/pictures")
    model = make_model_folder(tmp_path / "runs/demo_digits/hf", corpus=["Is it even?", "Yes.", "No.", "user\nassistant\n"], vocab_size=300)
    InternVLForConditionalGeneration(AutoConfig.from_pretrained(model)).save_pretrained(model)
    printed = run_script(own_data_script(), tmp_path)
    steps = [json.loads(line) for line in (tmp_path / "runs/mine/metrics.jsonl").open() if '"train"' in line]
    assert len(steps) == 30 and steps[-1]["loss"] < steps[0]["loss"]
    assert (tmp_path / "runs/mine/report.html").is_file()
    # Two answers learned by heart.
    assert "No." in printed


@pytest.mark.slow
def test_several_processes_run(tmp_path):
    from gimbal.__main__ import run as gimbal
    from gimbal.demo.digits import make_data

    folder = tmp_path / "data/demo/digits"
    folder.mkdir(parents=True)
    paths = make_data(folder)
    for name in ("train", "held_out"):
        words = ["--model", paths["model"], "--data", f"digits={paths[name]}", "--out", folder / name]
        assert gimbal(["prepare", *map(str, words)]) == 0
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    printed = run_script(script_of("Several processes"), tmp_path)
    assert ("All is well." in printed or "No problems, but " in printed) and "step-00000040" in printed and "receive" in printed
    lines = [json.loads(line) for line in (tmp_path / "runs/on_two/metrics.jsonl").open()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 41))
    assert [line["mesh"] for line in lines if line["kind"] == "summary"] == ["dp_shard 2", "pp 2"]

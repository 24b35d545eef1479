"""The README's section "Your own data and model" works as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def own_data_script() -> str:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own data and model", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```sh\n(.*?)```", section, re.S).group(1)


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
    # The whole environment: a Python finds its packages by the folder that it is called in.
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(["bash", "-ec", own_data_script()], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in (tmp_path / "runs/mine/metrics.jsonl").open() if '"train"' in line]
    assert len(steps) == 30 and steps[-1]["loss"] < steps[0]["loss"]
    assert (tmp_path / "runs/mine/report.html").is_file()
    # Two answers learned by heart.
    assert "No." in done.stdout

"""Runs `gimbal plan` on small inputs that are written here."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

from gimbal.generate.programs import find_program

LEVELS = ("keep", "attention", "mlp", "full")


def model_config(vision_layers: int = 4, text_layers: int = 6, **text: Any) -> dict[str, Any]:
    """A small InternVL with a Qwen2 text model."""
    return {
        "model_type": "internvl", "downsample_ratio": 0.5, "image_seq_length": 256,
        "vision_config": {
            "hidden_size": 256, "num_hidden_layers": vision_layers, "num_attention_heads": 4, "intermediate_size": 1024,
            "image_size": [448, 448], "patch_size": [14, 14],
        },
        "text_config": {
            "model_type": "qwen2", "hidden_size": 512, "num_hidden_layers": text_layers, "num_attention_heads": 8,
            "num_key_value_heads": 4, "intermediate_size": 2048, "vocab_size": 32000, **text,
        },
    }  # fmt: skip


def write_model(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(model_config(**changes)))
    return path


def write_lengths(path: Path, count: int = 400, seed: int = 0) -> Path:
    """Samples of one to five tiles with text around them."""
    draw = random.Random(seed)
    rows = [(tiles, 256 * tiles + draw.randint(100, 900)) for tiles in (draw.choice([1, 1, 2, 3, 5]) for _ in range(count))]
    path.write_text("vision,tokens\n" + "".join(f"{tiles},{tokens}\n" for tiles, tokens in rows))
    return path


def write_profile(path: Path, fingerprint: str, **changes: Any) -> Path:
    """A measured profile in which every block costs the same by its rows."""
    classes = ("vision_embed", "vision_layer", "projector", "text_embed", "text_layer", "text_norm", "text_head")
    nothing = [0.0, 0.0, 0.0]
    block = {
        "forward": [1e-5, 1e-6, 0.0], "backward_input": [1e-5, 1e-6, 0.0], "backward_weight": [1e-5, 1e-6, 0.0],
        "recompute": {level: [0.0, share * 1e-6, 0.0] for level, share in zip(LEVELS, (0, 0.5, 0.5, 1))},
        "saved": {level: [0.0, share * 1e4, 0.0] for level, share in zip(LEVELS, (1, 0.6, 0.6, 0.1))},
        "forward_workspace": nothing, "backward_workspace": {level: nothing for level in LEVELS},
        "output": [0.0, 2048.0, 0.0], "residual": 0.01,
    }  # fmt: skip
    link = {"latency": 1e-5, "bytes_per_second": 1e10}
    profile = {
        "format": "gimbal profile", "version": 1, "origin": "measured", "hardware": "this machine", "dtype": "float32",
        "model_type": "internvl", "model_fingerprint": fingerprint, "memory_bytes": 16e9, "reserved_bytes": 0.0,
        "peak_flops": 1e12, "value_bytes": 4, "optimizer_per_parameter": 1e-10, "step_overhead": 1e-3,
        "links": {"inside_node": link, "between_nodes": link, "devices_per_node": 8},
        "blocks": {name: block for name in classes}, "notes": [],
    }  # fmt: skip
    path.write_text(json.dumps({**profile, **changes}))
    return path


def plan(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs the command; it has to end with `code`."""
    ended = subprocess.run(
        [find_program("gimbal"), "plan", *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == code, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert "terminate called" not in ended.stderr, ended.stderr
    return ended


def figures(*words: object, code: int = 0) -> dict[str, Any]:
    return json.loads(plan(*words, "--json", "-", code=code).stdout)


def refused(*words: object) -> str:
    """The message of a command that has to end with exit code 2; it prints no result."""
    ended = plan(*words, code=2)
    assert ended.stdout == ""
    return ended.stderr

"""Checkpoints of several ranks against the safetensors package, and `gimbal inspect` on them.

The tests drive tests/support/checkpoint_tool; GIMBAL_BUILD_DIR names the build folder when it is not build/release.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest
import safetensors.torch
import torch

from gimbal.__main__ import run as gimbal
from gimbal.inspect.checkpoint_text import parts_of

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[3]
TOOL = Path(os.environ.get("GIMBAL_BUILD_DIR", ROOT / "build" / "release")) / "tests/support/checkpoint_tool/checkpoint_tool"
pytestmark = pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built: run make test, or set GIMBAL_BUILD_DIR to a build folder")

MESHES = [(1, 1, 1), (1, 4, 1), (2, 2, 1), (1, 1, 3), (1, 2, 2), (2, 1, 2)]
SHAPES = {"a.rows": (10, 7), "b.columns": (5, 9), "c.columns": (4, 6, 2), "d": (3,), "e": (), "f.rows": (2, 3), "g": (6, 6)}


def tool(*args: object) -> str:
    done = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def save(folder: Path, mesh: tuple[int, int, int]) -> Path:
    safetensors.torch.save_file(values(), folder / "values.safetensors")
    tool("save", folder / "values.safetensors", folder / "run", *mesh)
    return folder / "run" / "checkpoints" / "step-00000003"


def assemble(checkpoint: Path, entries: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of one section of index.json, as docs/checkpoints.md says, with the safetensors package alone."""
    out = {}
    for name, entry in entries.items():
        parts: dict[tuple[int, int, int], list[tuple[int, torch.Tensor]]] = {}
        for piece in entry["pieces"]:
            with safetensors.safe_open(checkpoint / piece["file"], "pt") as file:
                flat = file.get_tensor(name)
            assert flat.shape == (piece["numel"],)
            part = (piece.get("dim", -1), piece.get("part_begin", 0), piece.get("part_size", 1))
            parts.setdefault(part, []).append((piece["begin"], flat))
        wholes = []
        for (dim, _, size), pieces in sorted(parts.items()):
            shape = list(entry["shape"])
            if dim >= 0:
                shape[dim] = size
            wholes.append(torch.cat([flat for _, flat in sorted(pieces, key=lambda piece: piece[0])]).reshape(shape))
        out[name] = wholes[0] if len(wholes) == 1 else torch.cat(wholes, dim=next(iter(parts))[0])
    return out


@pytest.mark.parametrize("mesh", MESHES)
def test_the_package_puts_the_pieces_together(tmp_path: Path, mesh: tuple[int, int, int]) -> None:
    checkpoint = save(tmp_path, mesh)
    index = json.loads((checkpoint / "index.json").read_text())
    parameters = assemble(checkpoint, index["parameters"])
    moments = assemble(checkpoint, index["optimizer"])
    assert set(parameters) == set(SHAPES) and set(moments) == {f"{name}.first_moment" for name in SHAPES}
    for name, value in values().items():
        assert torch.equal(parameters[name], value)
        assert torch.equal(moments[f"{name}.first_moment"], 2 * value)


def write_by_hand(checkpoint: Path) -> None:
    """A checkpoint as another program would write it from docs/checkpoints.md."""
    files: dict[str, dict[str, torch.Tensor]] = {"one.safetensors": {}, "two.safetensors": {}}
    parameters: dict[str, Any] = {}
    for name, value in values().items():
        pieces = []
        cut = value.shape[0] // 2 if value.dim() else 0
        for number, file in enumerate(files):
            part = value if not value.dim() else value[:cut] if number == 0 else value[cut:]
            if not part.numel() or (number == 1 and not value.dim()):
                continue
            files[file][name] = part.flatten().clone()
            piece: dict[str, Any] = {"file": file, "begin": 0, "numel": part.numel()}
            if value.dim():
                piece |= {"dim": 0, "part_begin": number * cut, "part_size": len(part)}
            pieces.append(piece)
        parameters[name] = {"shape": list(value.shape), "dtype": "F32", "pieces": pieces}
    checkpoint.mkdir(parents=True)
    for file, tensors in files.items():
        safetensors.torch.save_file(tensors, checkpoint / file)
    (checkpoint / "index.json").write_text(json.dumps({"parameters": parameters, "optimizer": {}}, indent=1))
    numbers = ("step", "epoch", "step_in_epoch", "seed", "optimizer_steps", "samples", "tokens", "loss_tokens", "elapsed_milliseconds")
    state: dict[str, Any] = dict.fromkeys(numbers, 8) | dict.fromkeys(("stage", "recipe_fingerprint", "dataset_fingerprint"), "ä")
    entries = {
        name: {"bytes": (checkpoint / name).stat().st_size, "sha256": hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()}
        for name in [*files, "index.json"]
    }
    value = {"format": "gimbal-checkpoint", "version": 2, "state": state, "mesh": "pp 2", "files": entries}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (checkpoint / "state.json").write_text(json.dumps(value | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))


def test_reads_what_another_program_writes(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "step-00000008")
    assert json.loads(tool("verify", tmp_path / "step-00000008"))["step"] == 8
    tool("assemble", tmp_path / "step-00000008", tmp_path / "out.safetensors")
    loaded = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert set(loaded) == set(SHAPES)
    for name, value in values().items():
        assert torch.equal(loaded[name], value)


def inspect(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    capsys.readouterr()
    code = gimbal(["inspect", *map(str, words)])
    return code, capsys.readouterr().out


def test_inspect_shows_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save(tmp_path, (1, 2, 2))
    code, text = inspect(capsys, checkpoint, "--verify")
    assert code == 0 and "complete and undamaged" in text
    assert "step 3 (epoch 0" in text and "schönes Wetter" in text and "written by dp_shard 2, tp 2, format version 2" in text
    assert "bytes  rank-00003.safetensors" in text and "parameters: 7, 209 values; 7 with optimizer state" in text
    code, text = inspect(capsys, checkpoint, "--json")
    value = json.loads(text)
    assert code == 0 and value["ok"] and value["step"] == 3 and value["mesh"] == "dp_shard 2, tp 2"
    assert value["parameters"]["b.columns"]["shape"] == [5, 9] and value["parameters"]["b.columns"]["pieces"] >= 2
    assert value["files"]["index.json"] == (checkpoint / "index.json").stat().st_size
    write_by_hand(tmp_path / "step-00000008")
    assert inspect(capsys, tmp_path / "step-00000008", "--verify")[0] == 0


def test_inspect_sums_parameters_up_by_parts() -> None:
    names = ["vision.embed.patch.weight", "projector.up.weight", "projector.norm.weight", "text.embed.weight", "text.head.weight"]
    for stream, layers in (("vision", 2), ("text", 3)):
        names += [f"{stream}.{layer}.{part}.weight" for layer in range(layers) for part in "ab"]
    dtypes = {"text.head.weight": "BF16"}
    parts = parts_of({name: {"shape": [2, 3], "dtype": dtypes.get(name, "F32"), "pieces": 1} for name in names})
    assert parts["text layers"] == {"layers": 3, "parameters": 6, "values": 36, "bytes": 144}
    assert parts["vision layers"]["layers"] == 2 and parts["projector"]["parameters"] == 2
    assert parts["text.head"] == {"layers": 0, "parameters": 1, "values": 6, "bytes": 12}
    assert set(parts) == {"vision.embed", "vision layers", "projector", "text.embed", "text layers", "text.head"}


def test_inspect_lists_parameters_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save(tmp_path, (1, 2, 1))
    short, each = inspect(capsys, checkpoint)[1], inspect(capsys, checkpoint, "--parameters")[1]
    assert "b.columns" not in short and "--parameters lists each" in short
    assert re.search(r"^  b +- +1 +45 +0\.00$", short, re.M), short
    assert re.search(r"^  b.columns +F32 +\[5, 9\]  \d pieces$", each, re.M), each
    assert "  b.columns" in inspect(capsys, tmp_path / "run", "--parameters")[1]


@pytest.mark.parametrize(
    ("content", "words"), [('["one"', "not valid JSON"), ('{"one": 1}', "expected a list"), ("[1]", "expected a list")]
)
def test_inspect_of_a_broken_list_of_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    (tmp_path / "stages.json").write_text(content)
    assert gimbal(["inspect", str(tmp_path)]) == 2
    assert f"{tmp_path / 'stages.json'}: {words}" in capsys.readouterr().err


def test_inspect_shows_what_the_ranks_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, (1, 2, 1))
    sent = {"axis": "dp_shard", "call": "all-gather", "calls": 80, "bytes": 30 << 20, "wait_seconds": 0.5}
    line = {"kind": "communication", "step": 10, "steps": 10, "mean": [sent], "ranks": []}
    train = {"kind": "train", "step": 10}
    lines = [json.dumps(entry) for entry in ({**line, "steps": 5}, train, line)]
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(lines) + '\n{"kind":"communication","st')
    text = inspect(capsys, tmp_path / "run")[1]
    assert "communication of 10 steps, mean of the ranks:" in text
    assert re.search(r"^  dp_shard  all-gather +80 +30\.000 +3\.000 +0\.500$", text, re.M), text
    assert json.loads(inspect(capsys, tmp_path / "run", "--json")[1])["communication"]["steps"] == 10


def test_inspect_leaves_out_communication_of_another_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, (1, 2, 1))
    line = {"kind": "communication", "step": 10, "steps": 10, "mean": [1]}
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert "communication of 10 steps" in inspect(capsys, tmp_path / "run")[1]


def test_inspect_shows_version_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "step-00000001"
    write_by_hand(checkpoint)
    for path in checkpoint.iterdir():
        if path.name != "state.json":
            path.unlink()
    safetensors.torch.save_file(values(), checkpoint / "model.safetensors")
    safetensors.torch.save_file({"a.rows.first_moment": values()["a.rows"]}, checkpoint / "optimizer.safetensors")
    state = json.loads((checkpoint / "state.json").read_text())
    del state["sha256"], state["mesh"]
    state["version"] = 1
    state["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in checkpoint.glob("*.safetensors")
    }
    text = json.dumps(state, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (checkpoint / "state.json").write_text(json.dumps(state | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))
    assert json.loads(tool("verify", checkpoint))["step"] == 8
    code, text = inspect(capsys, checkpoint, "--verify")
    assert code == 0 and "written by one rank, format version 1" in text and "7 with" not in text and "1 with optimizer state" in text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: list[tuple[Callable[[Path], object], str, bool]] = [
    (lambda c: (c / "state.json").unlink(), "state.json: is missing, so the checkpoint is incomplete", False),
    (lambda c: (c / "state.json").write_text("{"), "state.json: is no JSON", False),
    (lambda c: (c / "state.json").write_text("[]"), "state.json: is no state of a checkpoint", False),
    (lambda c: (c / "rank-00001.safetensors").unlink(), "rank-00001.safetensors: is missing", False),
    (lambda c: os.truncate(c / "rank-00001.safetensors", 50), "rank-00001.safetensors: has 50 bytes instead of", False),
    (lambda c: os.truncate(c / "rank-00001.safetensors", 0), "rank-00001.safetensors: has 0 bytes, too few for a header", False),
    (lambda c: os.truncate(c / "rank-00000.safetensors", 8), "rank-00000.safetensors: announces a header of", False),
    (lambda c: os.truncate(c / "index.json", 0), "index.json: has 0 bytes instead of", False),
    (lambda c: flip(c / "index.json"), "index.json: its content does not match its checksum", False),
    (lambda c: flip(c / "rank-00001.safetensors"), "rank-00001.safetensors: its content does not match its checksum", True),
]


@pytest.mark.parametrize("damage, words, only_verified", DAMAGES)
def test_inspect_says_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], words: str, only_verified: bool
) -> None:
    checkpoint = save(tmp_path, (1, 2, 1))
    damage(checkpoint)
    code, text = inspect(capsys, checkpoint, "--verify")
    assert code == 1 and words in text and "DAMAGED" in text
    assert inspect(capsys, checkpoint)[0] == (0 if only_verified else 1)
    done = subprocess.run([TOOL, "verify", checkpoint], capture_output=True, text=True, check=False)
    assert done.returncode == 2  # the trainer's reader agrees


def rewrite_index(checkpoint: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the index and makes all checksums fit again."""
    index = json.loads((checkpoint / "index.json").read_text())
    change(index)
    (checkpoint / "index.json").write_text(json.dumps(index))
    state = json.loads((checkpoint / "state.json").read_text())
    content = (checkpoint / "index.json").read_bytes()
    state["files"]["index.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    del state["sha256"]
    text = json.dumps(state, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (checkpoint / "state.json").write_text(json.dumps(state | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))


INDEX_DAMAGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda index: index["parameters"]["g"]["pieces"].clear(), "'g': is in no file"),
    (lambda index: index["parameters"]["a.rows"]["pieces"].pop(), "'a.rows': its parts do not make up dim 0"),
    (lambda index: index["parameters"]["g"]["pieces"].append(index["parameters"]["g"]["pieces"][0]), "'g': its pieces do not make up a part"),
    (lambda index: index["parameters"]["g"]["pieces"][0].update(dim=1), "'g': its parts do not make up dim 1"),
    (lambda index: index["parameters"]["g"]["pieces"][0].update(file="rank-00009.safetensors"), "'g': is not in rank-00009.safetensors"),
    (lambda index: index["parameters"]["g"]["pieces"][0].update(dim=2), "'g': has a piece along dim 2 of 2"),
    (lambda index: index["parameters"]["g"]["pieces"][0].update(dim=-2), "'g': has a piece along dim -2 of 2"),
    (lambda index: index["parameters"]["g"]["pieces"][0].update(dim="0"), "its description cannot be read: TypeError"),
    (lambda index: index["parameters"]["g"].update(shape=["6", 6]), "'g': has no possible shape"),
    (lambda index: index["parameters"]["g"].update(shape=[10**30, 0.5]), "'g': has no possible shape"),
    (lambda index: index["parameters"]["g"].update(pieces={"file": "x"}), "'g': key 'pieces' is no list"),
    (lambda index: index["parameters"]["g"].update(dtype="F17"), "'g': has the unknown dtype 'F17'"),
    (lambda index: index["parameters"]["g"].update(dtype="F16"), "not 36 values of F16"),
    (lambda index: index["parameters"]["g"].pop("shape"), "its description cannot be read: KeyError: 'shape'"),
]


@pytest.mark.parametrize("change, words", INDEX_DAMAGES)
def test_inspect_finds_pieces_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], object], words: str
) -> None:
    checkpoint = save(tmp_path, (1, 1, 2))
    rewrite_index(checkpoint, change)
    code, text = inspect(capsys, checkpoint)
    assert code == 1 and words in text


def test_inspect_shows_the_checkpoints_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = save(tmp_path, (1, 2, 1))
    assert f"{tmp_path / 'run'}: 1 checkpoint\n" in inspect(capsys, tmp_path / "run")[1]
    shutil.copytree(first, first.with_name("step-00000004"))
    for name in ("step-00000005.partial", "step-00000005.partial.replaced", "step-00000006.unused", "step-00000006.unused-2"):
        first.with_name(name).mkdir()
    code, text = inspect(capsys, tmp_path / "run")
    assert code == 0 and "2 checkpoints" in text and "checkpoints/step-00000005.partial  unfinished" in text
    assert "checkpoints/step-00000005.partial.replaced  unfinished" in text
    assert "checkpoints/step-00000006.unused  unused" in text and "checkpoints/step-00000006.unused-2  unused" in text
    assert text.index("newest:") < text.index("step-00000004: complete")
    flip(first.with_name("step-00000004") / "rank-00000.safetensors")
    code, text = inspect(capsys, tmp_path / "run", "--verify", "--json")
    value = json.loads(text)
    assert code == 1 and not value["ok"] and [row["ok"] for row in value["checkpoints"]] == [True, False]
    assert value["newest"]["checkpoint"] == str(first)
    (tmp_path / "run" / "stages.json").write_text('["one", "two"]')
    (tmp_path / "run" / "one").mkdir()
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "run" / "one" / "checkpoints")
    assert "one/checkpoints/step-00000003" in inspect(capsys, tmp_path / "run")[1]


def test_inspect_of_something_else_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gimbal(["inspect", str(tmp_path)]) == 2
    assert "is neither a dataset folder (manifest.json), nor a run folder" in capsys.readouterr().err
    assert gimbal(["inspect", str(tmp_path / "gone")]) == 2
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("{}")
    assert gimbal(["inspect", str(tmp_path), "--verify"]) == 2
    assert "--verify is for checkpoints" in capsys.readouterr().err
    assert gimbal(["inspect", str(tmp_path), "--parameters"]) == 2
    assert "--parameters is for checkpoints" in capsys.readouterr().err
    write_by_hand(tmp_path / "step-00000008")
    assert gimbal(["inspect", str(tmp_path / "step-00000008"), "--sample", "1"]) == 2
    assert "--sample and --model are for dataset folders" in capsys.readouterr().err

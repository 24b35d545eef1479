"""Gimbal's safetensors files and model folders against the safetensors and transformers packages.

The tests drive tests/support/checkpoint_tool; GIMBAL_BUILD_DIR names the build folder when it is not build/release.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[3]
TOOL = Path(os.environ.get("GIMBAL_BUILD_DIR", ROOT / "build" / "release")) / "tests/support/checkpoint_tool/checkpoint_tool"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
}  # fmt: skip
TOKENIZER_FILES = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja", "chat_template.json",
]  # fmt: skip

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built: run make test, or set GIMBAL_BUILD_DIR to a build folder")


def run(*args: object) -> str:
    done = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def make_tensor(dtype: str, shape: list[int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    if dtype == "BOOL":
        return torch.randint(0, 2, (count,), generator=generator).bool().reshape(shape)
    size = torch.empty((), dtype=DTYPES[dtype]).element_size()
    random = torch.randint(0, 256, (count * size,), generator=generator, dtype=torch.uint8)
    return random.view(DTYPES[dtype]).reshape(shape)  # every bit pattern, NaN included


tensors = st.dictionaries(
    st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12).filter(lambda n: n != "__metadata__"),
    st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 5), max_size=3), st.integers(0, 1000)),
    max_size=6,
)
metadata = st.dictionaries(st.text(max_size=5), st.text(max_size=8), min_size=1, max_size=3)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors, metadata)
def test_reads_and_writes_what_the_package_does(
    tmp_path: Path, described: dict[str, tuple[str, list[int], int]], notes: dict[str, str]
) -> None:
    values = {name: make_tensor(*what) for name, what in described.items()}
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    safetensors.torch.save_file(values, theirs, metadata=notes)
    seen = json.loads(run("dump", theirs))
    assert seen["metadata"] == notes
    assert set(seen["tensors"]) == set(values)
    for name, (dtype, shape, _) in described.items():
        digest = hashlib.sha256(raw_bytes(values[name])).hexdigest()
        assert seen["tensors"][name] == {"dtype": dtype, "shape": shape, "sha256": digest}

    run("copy", theirs, ours)
    loaded = safetensors.torch.load_file(ours)
    assert set(loaded) == set(values)
    for name, value in values.items():
        assert loaded[name].dtype == value.dtype and loaded[name].shape == value.shape
        assert raw_bytes(loaded[name]) == raw_bytes(value)
    with safetensors.safe_open(ours, "pt") as file:
        assert file.metadata() == notes


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
def test_transformers_loads_a_resaved_folder(tmp_path: Path, shard_bytes: int) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    model = Qwen2ForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "origin", max_shard_size="30KB")
    (tmp_path / "origin" / "tokenizer.json").write_text("{}")
    assert (tmp_path / "origin" / "model.safetensors.index.json").exists()
    run("resave", tmp_path / "origin", tmp_path / "out", shard_bytes)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert (tmp_path / "out" / "model.safetensors").exists() == (shard_bytes == 10**9)
    again = Qwen2ForCausalLM.from_pretrained(tmp_path / "out").eval()
    ids = torch.arange(10)[None]
    assert torch.equal(model(ids).logits, again(ids).logits)
    if shard_bytes < 10**9:
        ours = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        theirs = json.loads((tmp_path / "origin" / "model.safetensors.index.json").read_text())
        assert ours["metadata"] == theirs["metadata"]
        assert set(ours["weight_map"]) == set(theirs["weight_map"])


def definition(folder: Path, names: list[str]) -> str:
    """As docs/dataset_format.md, section manifest.json, says."""
    digest = hashlib.sha256()
    for name in sorted(names):
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("present", [[], ["tokenizer.json"], TOKENIZER_FILES, ["vocab.json", "merges.txt"]])
def test_fingerprints_equal_their_definition_and_prepare(tmp_path: Path, present: list[str]) -> None:
    from gimbal.prepare import model as prepare

    processor = ["preprocessor_config.json", "processor_config.json"]
    for name in [*present, *processor, "config.json"]:
        (tmp_path / name).write_text(f"content of {name}" * 9)
    ours = json.loads(run("fingerprints", tmp_path))
    assert ours == {"tokenizer": definition(tmp_path, TOKENIZER_FILES), "processor": definition(tmp_path, processor)}
    assert prepare.tokenizer_sha256(tmp_path) == ours["tokenizer"]
    assert prepare.processor_sha256(tmp_path) == ours["processor"]

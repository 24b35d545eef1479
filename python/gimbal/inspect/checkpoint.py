"""Training checkpoints: what they hold and what is wrong with them. docs/checkpoints.md describes the files."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8,
}  # fmt: skip
_FILES_OF_VERSION_1 = {"model.safetensors": "parameters", "optimizer.safetensors": "optimizer"}
_STATE_KEYS = {"step": int, "epoch": int, "step_in_epoch": int, "samples": int, "tokens": int, "loss_tokens": int, "stage": str}
_CHUNK = 1 << 22
_LENGTH_BYTES = 8  # of the header's length


class Damage(Exception):
    """A checkpoint that cannot be read; says what is wrong."""


@dataclass
class Tensor:
    shape: list[int]
    dtype: str
    pieces: list[dict[str, Any]]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass
class Checkpoint:
    """What could be read, and what is wrong with it."""

    folder: Path
    version: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    mesh: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def is_checkpoint(folder: Path) -> bool:
    """True for whatever was meant to be one, damaged or not."""
    if (folder / "state.json").is_file():
        return True
    return folder.name.startswith("step-") and any(folder.glob("*.safetensors"))


def read_checkpoint(folder: Path, verify: bool) -> Checkpoint:
    """Reads the descriptions and looks for damage; `verify` also compares the checksums of all files."""
    checkpoint = Checkpoint(folder)
    try:
        _read_state(checkpoint)
        _check_files(checkpoint, verify)
        _read_tensors(checkpoint)
    except Damage as damage:
        checkpoint.problems.append(str(damage))
    except (OSError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError) as error:
        checkpoint.problems.append(f"{folder}: its description cannot be read: {type(error).__name__}: {error}")
    return checkpoint


def _read_state(checkpoint: Checkpoint) -> None:
    path = checkpoint.folder / "state.json"
    if not path.is_file():
        raise Damage(f"{path}: is missing, so the checkpoint is incomplete")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Damage(f"{path}: is no JSON: {error}") from None
    if not isinstance(value, dict) or value.get("format") != "gimbal-checkpoint":
        raise Damage(f"{path}: is no state of a checkpoint")
    checkpoint.version = value["version"]
    if checkpoint.version not in (1, 2):
        raise Damage(f"{path}: has format version {checkpoint.version}, this program reads versions 1 and 2")
    digest = value.pop("sha256", None)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise Damage(f"{path}: its content does not match its checksum; the file was changed or is damaged")
    for key in ("state", "files"):
        if not isinstance(value.get(key), dict):
            raise Damage(f"{path}: key '{key}' is no JSON object")
    for key, kind in _STATE_KEYS.items():
        if not isinstance(value["state"].get(key), kind):
            raise Damage(f"{path}: key '{key}' of the state is missing or has a wrong type")
    for name, entry in value["files"].items():
        if not (isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)):
            raise Damage(f"{path}: the size and checksum of '{name}' are missing")
    checkpoint.state = value["state"]
    checkpoint.mesh = str(value.get("mesh", ""))
    checkpoint.files = value["files"]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_files(checkpoint: Checkpoint, verify: bool) -> None:
    for name, expected in sorted(checkpoint.files.items()):
        path = checkpoint.folder / name
        if not path.is_file():
            checkpoint.problems.append(f"{path}: is missing, so the checkpoint is incomplete")
            continue
        size = path.stat().st_size
        if size != expected["bytes"]:
            checkpoint.problems.append(f"{path}: has {size} bytes instead of {expected['bytes']}; the file is damaged or incomplete")
        elif (verify or name == "index.json") and _sha256(path) != expected["sha256"]:
            checkpoint.problems.append(f"{path}: its content does not match its checksum; the file is damaged")


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name, as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < _LENGTH_BYTES:
            raise Damage(f"{path}: has {size} bytes, too few for a header; the file is damaged or incomplete")
        (length,) = struct.unpack("<Q", file.read(_LENGTH_BYTES))
        if length > size - _LENGTH_BYTES:
            raise Damage(f"{path}: announces a header of {length} bytes; the file is damaged or incomplete")
        text = file.read(length)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise Damage(f"{path}: its header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise Damage(f"{path}: its header is no JSON object")
    header.pop("__metadata__", None)
    return header


def _make_tensor(where: str, shape: Any, dtype: Any, pieces: Any) -> Tensor:
    """Checks the types: what is shown later relies on them."""
    if not isinstance(shape, list) or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise Damage(f"{where}: has no possible shape")
    if dtype not in DTYPE_BYTES:
        raise Damage(f"{where}: has the unknown dtype {dtype!r}")
    if not isinstance(pieces, list):
        raise Damage(f"{where}: key 'pieces' is no list")
    return Tensor(shape, dtype, pieces)


def _read_tensors(checkpoint: Checkpoint) -> None:
    if checkpoint.version == 1:
        for name, kind in _FILES_OF_VERSION_1.items():
            tensors = getattr(checkpoint, kind)
            for tensor, entry in read_header(checkpoint.folder / name).items():
                numel = math.prod(entry["shape"])
                pieces = [{"file": name, "begin": 0, "numel": numel}]
                tensors[tensor] = _make_tensor(f"{checkpoint.folder / name}: '{tensor}'", entry["shape"], entry["dtype"], pieces)
        return
    path = checkpoint.folder / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    headers = {name: read_header(checkpoint.folder / name) for name in checkpoint.files if name.endswith(".safetensors")}
    for kind in ("parameters", "optimizer"):
        tensors = getattr(checkpoint, kind)
        for name, entry in index[kind].items():
            tensors[name] = _make_tensor(f"{path}: '{name}'", entry["shape"], entry["dtype"], entry["pieces"])
            checkpoint.problems += [f"{path}: '{name}': {what}" for what in _find_wrong_pieces(name, tensors[name], headers)]


def _find_wrong_pieces(name: str, tensor: Tensor, headers: dict[str, dict[str, Any]]) -> list[str]:
    """What keeps the pieces from making up the tensor."""
    problems = []
    parts: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for piece in tensor.pieces:
        held = headers.get(piece["file"], {}).get(name)
        if held is None:
            problems.append(f"is not in {piece['file']}")
        elif held["dtype"] != tensor.dtype or math.prod(held["shape"]) != piece["numel"]:
            problems.append(f"is {held['dtype']} {held['shape']} in {piece['file']}, not {piece['numel']} values of {tensor.dtype}")
        part = (piece.get("dim", -1), piece.get("part_begin", 0), piece.get("part_size", 1))
        parts.setdefault(part, []).append((piece["begin"], piece["numel"]))
    if tensor.numel == 0:
        return problems
    dims = {dim for dim, _, _ in parts}
    if len(dims) != 1:
        return [*problems, f"has pieces along the dims {sorted(dims)}" if dims else "is in no file"]
    (dim,) = dims
    if not -1 <= dim < len(tensor.shape):
        return [*problems, f"has a piece along dim {dim} of {len(tensor.shape)}"]
    length = 1 if dim < 0 else tensor.shape[dim]
    if not _tiles([(begin, size) for _, begin, size in parts], length):
        problems.append(f"its parts do not make up dim {dim}")
    for (_, _, size), pieces in parts.items():
        if not _tiles(pieces, tensor.numel // length * size):
            problems.append("its pieces do not make up a part")
    return problems


def _tiles(intervals: list[tuple[int, int]], total: int) -> bool:
    """True when the (begin, size) make up 0 .. total without overlap."""
    end = 0
    for begin, size in sorted(intervals):
        if begin != end:
            return False
        end += size
    return end == total


def to_value(checkpoint: Checkpoint) -> dict[str, Any]:
    """A JSON-ready value."""
    return {
        "checkpoint": str(checkpoint.folder),
        "ok": not checkpoint.problems,
        "problems": checkpoint.problems,
        "version": checkpoint.version,
        "step": checkpoint.state.get("step"),
        "state": checkpoint.state,
        "mesh": checkpoint.mesh,
        "files": {name: entry["bytes"] for name, entry in checkpoint.files.items()},
        "parameters": _tensor_values(checkpoint.parameters),
        "optimizer": _tensor_values(checkpoint.optimizer),
    }


def _tensor_values(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: {"shape": t.shape, "dtype": t.dtype, "pieces": len(t.pieces)} for name, t in tensors.items()}

"""Builds a dataset folder: reads, spreads the work, writes, and resumes what was interrupted."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gimbal import UserError, __version__
from gimbal.prepare import records
from gimbal.prepare.config import PrepareConfig, validate
from gimbal.prepare.model import Model, load_model
from gimbal.prepare.pool import ordered_map
from gimbal.prepare.progress import Progress
from gimbal.prepare.readers import CHUNK_BYTES, CHUNK_SAMPLES, Position, read_chunks
from gimbal.prepare.resume import PartialFolder, write_durably
from gimbal.prepare.worker import Worker
from gimbal.prepare.writer import DatasetWriter, file_sha256

# How much work a crash may cost. Syncing more often costs more than it saves.
_COMMIT_SECONDS = 2.0


def build_dataset(config: PrepareConfig, *, commit_seconds: float = _COMMIT_SECONDS) -> dict[str, Any]:
    """Makes the folder `config.out` and returns its manifest. Raises UserError; an interrupted run can be repeated."""
    validate(config)
    try:
        return _build(config, commit_seconds)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"{config.out}: no space to write ({error.strerror}); free some and run the same command again, it goes on"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(f"{error.filename or config.out}: {error.strerror}; take another --out or change its rights") from error
        raise


def _build(config: PrepareConfig, commit_seconds: float) -> dict[str, Any]:
    model = load_model(config)
    files = _source_files(config)
    media_root = _media_root(config)
    fingerprint = _fingerprint(config, model, files, media_root)
    out = Path(os.path.abspath(config.out))
    with closing(PartialFolder(out, fingerprint, config.overwrite)) as partial:
        if not partial.finished:
            manifest = _fill(partial, config, model, files, media_root, commit_seconds)
            text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
            write_durably(partial.path / records.MANIFEST_FILE, text.encode("utf-8", "backslashreplace"))
        partial.finish()
    return json.loads((out / records.MANIFEST_FILE).read_text(encoding="utf-8"))


def _source_files(config: PrepareConfig) -> list[list[dict[str, Any]]]:
    try:
        return [
            [{"path": file, "bytes": os.path.getsize(file), "sha256": file_sha256(file)} for file in source.files]
            for source in config.sources
        ]
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error


def _media_root(config: PrepareConfig) -> str:
    return os.path.commonpath([config.media_folder(source, file) for source, file in config.inputs])


def _fingerprint(config: PrepareConfig, model: Model, files: list[list[dict[str, Any]]], media_root: str) -> dict[str, Any]:
    """Everything that the bytes of the dataset depend on; not the number of workers."""
    options = asdict(config)
    for key in ("out", "workers", "overwrite", "strict"):
        del options[key]
    folders = [config.media_folder(source, file) for source, file in config.inputs]
    return {
        "version": [__version__, records.VERSION, CHUNK_SAMPLES, CHUNK_BYTES],
        "options": options,
        "files": files,
        "media": [media_root, folders],
        "model": model.manifest(),
        "image_processor": model.images.processor if model.images else None,
    }


def _fill(
    partial: PartialFolder,
    config: PrepareConfig,
    model: Model,
    files: list[list[dict[str, Any]]],
    media_root: str,
    commit_seconds: float,
) -> dict[str, Any]:
    """Processes all chunks that are not on disk yet; returns the manifest."""
    last = partial.last_commit()
    state = last["state"] if last else None
    start = Position(**last["position"]) if last else Position()
    number = last["chunk"] + 1 if last else 0
    file_bytes = [files[source][file]["bytes"] for source, file in config.inputs]
    done = last["bytes_done"] if last else 0
    if last:
        print(f"prepare: going on after {state['counts']['samples']:,} samples of an interrupted run", file=sys.stderr)
    with closing(DatasetWriter(partial.path, len(config.sources), state)) as writer:
        if config.strict and writer.counts["rejected"]:
            _refuse_rejected(partial.path)
        progress = Progress(sum(file_bytes), resumed_samples=writer.counts["samples"], resumed_bytes=done)
        worker = Worker(config, model, media_root)
        chunks = read_chunks(config, file_bytes, start, number)
        committed = time.monotonic()
        with closing(ordered_map(worker.process, chunks, config.num_workers)) as results:
            for chunk, result in results:
                if config.strict and result.rejected:
                    file = config.sources[chunk.source].files[chunk.file]
                    raise UserError(f"{file}, {result.first_rejection} (--strict stops at the first rejected sample)")
                writer.write(result, chunk.source)
                progress.update(writer.counts["samples"], writer.counts["rejected"], chunk.bytes_done)
                if time.monotonic() - committed >= commit_seconds:
                    partial.commit(
                        {"chunk": chunk.number, "position": asdict(chunk.next), "bytes_done": chunk.bytes_done,
                         "state": writer.sync()}
                    )  # fmt: skip
                    committed = time.monotonic()
        writer.sync()
        progress.finish(writer.counts["samples"], writer.counts["rejected"])
        return _manifest(config, model, files, media_root, writer)


def _refuse_rejected(folder: Path) -> None:
    with open(folder / records.REJECTED_FILE, encoding="utf-8") as file:
        first = json.loads(file.readline())
    raise UserError(
        f"{first['file']}, line {first['line']}: {first['reason']}: {first['detail']} (--strict stops at the first rejected sample)"
    )


def _manifest(
    config: PrepareConfig, model: Model, files: list[list[dict[str, Any]]], media_root: str, writer: DatasetWriter
) -> dict[str, Any]:
    sources = [
        {"name": source.name, "weight": source.weight, **counts, "files": entries}
        for source, counts, entries in zip(config.sources, writer.sources, files)
    ]
    manifest: dict[str, Any] = {
        "format": records.FORMAT,
        "version": records.VERSION,
        "created_by": f"gimbal {__version__}",
        "streams": {"text": "tokens", "vision": "tiles"},
        "counts": writer.counts,
        "rejected_by_reason": dict(sorted(writer.reasons.items())),
        "max": writer.max,
        "sources": sources,
        "media_root": media_root,
        "model": model.manifest(),
    }
    if model.images:
        manifest["image_processor"] = model.images.processor
    manifest |= {"max_tokens": config.max_tokens, "truncation": "reject", "files": writer.checksums()}
    return manifest

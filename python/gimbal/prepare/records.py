"""The fixed-width records of a dataset folder as numpy types, and the names of its files."""

from __future__ import annotations

import numpy as np

INDEX = np.dtype(
    [
        ("token_begin", "<u8"),
        ("loss_span_begin", "<u8"),
        ("media_begin", "<u8"),
        ("num_tokens", "<u4"),
        ("num_loss_tokens", "<u4"),
        ("num_loss_spans", "<u4"),
        ("num_media", "<u4"),
        ("vision_rows", "<u4"),
        ("audio_rows", "<u4"),
        ("source", "<u4"),
        ("source_line", "<u4"),
        ("source_file", "<u4"),
        ("status", "<u4"),
    ]
)
MEDIA = np.dtype(
    [
        ("path_begin", "<u8"),
        ("byte_size", "<u8"),
        ("content_hash", "<u8"),
        ("path_length", "<u4"),
        ("storage", "<u4"),
        ("kind", "<u4"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("grid_columns", "<u4"),
        ("grid_rows", "<u4"),
        ("rows", "<u4"),
        ("reserved", "<u8"),
    ]
)
TOKEN = np.dtype("<u4")
SPAN = np.dtype([("begin", "<u4"), ("end", "<u4")])
REF = np.dtype("<u4")

STORAGE_FILE, STORAGE_BLOB = 0, 1

INDEX_FILE = "index.bin"
TOKENS_FILE = "tokens.bin"
SPANS_FILE = "loss_spans.bin"
REFS_FILE = "media_refs.bin"
MEDIA_FILE = "media.bin"
PATHS_FILE = "media_paths.bin"
BLOBS_FILE = "media_blobs.bin"
REJECTED_FILE = "rejected.jsonl"
MANIFEST_FILE = "manifest.json"
# Written in the order of this list; only the blobs may be absent.
DATA_FILES = (
    INDEX_FILE,
    TOKENS_FILE,
    SPANS_FILE,
    REFS_FILE,
    MEDIA_FILE,
    PATHS_FILE,
    BLOBS_FILE,
    REJECTED_FILE,
)

FORMAT, VERSION = "gimbal-dataset", 1

assert INDEX.itemsize == 64 and MEDIA.itemsize == 64 and SPAN.itemsize == 8

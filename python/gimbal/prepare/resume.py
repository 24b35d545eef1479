"""The unfinished dataset folder: its lock, its fingerprint and the journal that says how far it is on disk.

While a dataset is made it is called OUT.partial. Every journal line holds the sizes of all files at a moment when they were
synced; after a crash the files are cut back to the last line, and work goes on behind it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.prepare.records import MANIFEST_FILE

JOURNAL_FILE = "journal.jsonl"
KEYS_FILE = "media_keys.bin"
FINGERPRINT_FILE = "fingerprint"
LOCK_FILE = "lock"
_WORKING_FILES = (JOURNAL_FILE, KEYS_FILE, FINGERPRINT_FILE, LOCK_FILE)


def sync_folder(folder: Path) -> None:
    """Makes names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file so that it is there completely or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    sync_folder(path.parent)


class PartialFolder:
    """OUT.partial, locked for this process. Use `close` to let go of the lock."""

    def __init__(self, out: Path, fingerprint: dict[str, Any], overwrite: bool) -> None:
        """Makes the folder, or takes over an interrupted one if it was made from the same inputs and options."""
        self._out = out
        self.path = out.with_name(out.name + ".partial")
        self._check_out(overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        # Record locks are not inherited, so workers of a killed run don't keep it.
        self._lock = open(self.path / LOCK_FILE, "wb")
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(f"{self.path}: another `gimbal prepare` is writing it; wait for it or take another --out") from None
        digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
        stamp = self.path / FINGERPRINT_FILE
        if not stamp.is_file() or stamp.read_text() != digest:
            self._clear()
            write_durably(stamp, digest.encode())
        self._journal = None

    def _check_out(self, overwrite: bool) -> None:
        if not self._out.exists() and not self._out.is_symlink():
            return
        if not self._out.is_dir():
            raise UserError(f"{self._out}: exists and is not a folder; take another --out")
        entries = os.listdir(self._out)
        if entries and MANIFEST_FILE not in entries:
            raise UserError(f"{self._out}: exists and is not a dataset folder; it is left alone, take another --out")
        if entries and not overwrite:
            raise UserError(f"{self._out}: is a finished dataset; use --overwrite to replace it or take another --out")

    def _clear(self) -> None:
        for entry in self.path.iterdir():
            if entry.name != LOCK_FILE:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    @property
    def finished(self) -> bool:
        """Whether only the renaming is left to do."""
        return (self.path / MANIFEST_FILE).is_file()

    def last_commit(self) -> dict[str, Any] | None:
        """The last complete journal line; what may follow it is cut off."""
        path = self.path / JOURNAL_FILE
        last, valid = None, 0
        if path.is_file():
            with open(path, "rb") as file:
                for line in file:
                    try:
                        last = json.loads(line) if line.endswith(b"\n") else None
                    except ValueError:
                        break
                    if not line.endswith(b"\n"):
                        break
                    valid += len(line)
        with open(path, "ab") as file:
            file.truncate(valid)
        if valid and last is None:
            # The last line was torn: the one before it counts.
            return self.last_commit()
        return last

    def commit(self, record: dict[str, Any]) -> None:
        """Appends a journal line durably. The files it speaks of must be synced before."""
        if self._journal is None:
            self._journal = open(self.path / JOURNAL_FILE, "ab")
        self._journal.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def finish(self) -> None:
        """Turns OUT.partial, whose manifest is written, into OUT."""
        # A name that only this program makes, so that nothing of the user's is ever in the way.
        old = self._out.with_name(self._out.name + ".partial.replaced")
        shutil.rmtree(old, ignore_errors=True)
        if self._out.exists():
            if os.listdir(self._out):
                os.rename(self._out, old)
            else:
                self._out.rmdir()
        os.rename(self.path, self._out)
        # After the renaming: until then they tell a restarted run that only this is left to do.
        for name in _WORKING_FILES:
            (self._out / name).unlink(missing_ok=True)
        sync_folder(self._out)
        sync_folder(self._out.parent)
        shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._lock.close()

"""scripts/setup where nothing may be installed, and where nothing is left to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the files that setup reads, and a folder `tools` that hides the machine's package tools."""
    folder = tmp_path / "clone"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts/setup", folder / "scripts/setup")
    for name in ("requirements.txt", "constraints.txt"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "tools").mkdir()
    # No package is installed, the user is not root, and sudo asks for a password.
    for name, body in {"dpkg-query": "exit 1", "apt-get": "exit 1", "id": "echo 1000", "sudo": "exit 1"}.items():
        (folder / "tools" / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / "tools" / name).chmod(0o755)
    return folder


def setup(clone: Path) -> subprocess.CompletedProcess[str]:
    path = f"{clone / 'tools'}:{os.environ['PATH']}"
    return subprocess.run(
        [str(clone / "scripts/setup")], env=os.environ | {"PATH": path}, cwd="/", capture_output=True, text=True, timeout=60
    )


def test_prints_the_line_to_run_when_it_may_not_install(clone: Path) -> None:
    result = setup(clone)
    assert result.returncode == 2
    (line,) = result.stdout.splitlines()
    assert line.startswith("sudo sh -c 'apt-get update && apt-get install --yes --no-install-recommends g++ ")
    assert " libyaml-cpp-dev " in line
    assert "Run this" in result.stderr
    assert not (clone / ".venv").exists()


def test_does_nothing_when_up_to_date(clone: Path) -> None:
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").symlink_to("/bin/true")
    files = ("requirements.txt", "constraints.txt", "scripts/setup")
    text = "".join((clone / name).read_text() for name in files) + f"{clone}\n"
    digest = subprocess.run(["sha256sum"], input=text, capture_output=True, text=True, check=True).stdout.split()[0]
    (clone / ".venv/.gimbal_setup").write_text(digest + "\n", encoding="utf-8")
    result = setup(clone)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    # Another set of packages makes the stamp stale, and setup goes on to look for packages.
    (clone / "requirements.txt").write_text("numpy\n", encoding="utf-8")
    assert setup(clone).returncode == 2

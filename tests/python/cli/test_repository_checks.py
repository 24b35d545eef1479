"""tools/check_layers and tools/check_lengths: each rule is broken once in a small tree and must be reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools"


def check(tool: str, root: Path) -> tuple[int, str]:
    result = subprocess.run([sys.executable, str(TOOLS / tool), str(root)], capture_output=True, text=True)
    return result.returncode, result.stdout


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_layers_take_a_tree_that_keeps_the_rules(tmp_path: Path) -> None:
    write(tmp_path, "src/gimbal/base/file.h", '#include <string>\n#include "gimbal/base/error.h"\n')
    write(tmp_path, "src/gimbal/nn/linear.cpp", '#include <ATen/ops/mm.h>\n#include "gimbal/tensor/shape.h"\n')
    write(tmp_path, "src/gimbal/parallel/comm/comm.cpp", "#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>\n")
    write(tmp_path, "src/gimbal/parallel/launch.cpp", 'auto rank = std::getenv("RANK");\n')
    write(tmp_path, "src/gimbal/optim/adamw.cpp", '#include "gimbal/parallel/comm.h"\n')
    write(tmp_path, "apps/cli/main.cpp", '#include "gimbal/config/load.h"\nauto home = getenv("HOME");\n')
    write(tmp_path, "apps/cli/run/main.cpp", "#include <ATen/Parallel.h>\n")
    assert check("check_layers", tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("src/gimbal/nn/linear.h", '#include "gimbal/parallel/comm.h"', "nn may not include parallel"),
        ("src/gimbal/nn/deep/linear.h", '#include "gimbal/config/recipe.h"', "nn may not include config"),
        ("src/gimbal/base/x.h", '#include "gimbal/config/recipe.h"', "base may not include config"),
        ("src/gimbal/optim/x.cpp", '#include "gimbal/parallel/launch.h"', "may include only comm.h, mesh.h, store.h"),
        ("src/gimbal/parallel/x.h", '#include "gimbal/models/registry.h"', "may include only block.h, flow.h"),
        ("apps/cli/x.cpp", '#include "gimbal/nn/linear.h"', "apps may not include nn"),
        ("src/gimbal/train/x.cpp", "#include <torch/torch.h>", "takes 15 s to compile"),
        ("src/gimbal/data/x.cpp", "#include <ATen/core/Tensor.h>", "no libtorch in data"),
        ("apps/cli/x.cpp", "#include <c10/core/Device.h>", "no libtorch in this program"),
        ("src/gimbal/nn/x.h", "#include <ATen/ops/mm.h>", "operator headers only in .cpp files"),
        ("src/gimbal/train/x.cpp", "#include <torch/csrc/distributed/c10d/Store.hpp>", "only in parallel/comm*"),
        ("src/gimbal/parallel/store.cpp", "#  include <gloo/context.h>", "only in parallel/comm*"),
        ("src/gimbal/train/x.cpp", 'auto a = std::getenv("A");', "getenv only in apps/ and parallel/launch*"),
        ("src/gimbal/parallel/comm/comm.cpp", 'auto a = ::getenv ("A");', "getenv only in apps/"),
        ("src/gimbal/extra/x.cpp", "", "folder 'extra' is not in the table"),
    ],
)
def test_layers_name_file_and_line(tmp_path: Path, file: str, line: str, message: str) -> None:
    write(tmp_path, file, f"// first line\n{line}\n")
    code, output = check("check_layers", tmp_path)
    assert code == 1
    assert output.startswith(f"{file}:1: " if "table" in message else f"{file}:2: ")
    assert message in output
    assert len(output.splitlines()) == 1


def test_layers_pass_over_comments(tmp_path: Path) -> None:
    text = '// getenv("A")\n/*\n#include <torch/torch.h>\n*/\nconst char* url = "a//b";  // getenv()\n'
    write(tmp_path, "src/gimbal/base/x.cpp", text)
    assert check("check_layers", tmp_path) == (0, "")


def test_layers_refuse_an_empty_tree(tmp_path: Path) -> None:
    assert check("check_layers", tmp_path)[0] == 1


def test_lengths_name_long_files(tmp_path: Path) -> None:
    write(tmp_path, "src/gimbal/base/a.cpp", "\n" * 500)
    write(tmp_path, "tests/unit/a_test.cpp", "\n" * 600)
    assert check("check_lengths", tmp_path) == (0, "")
    write(tmp_path, "src/gimbal/base/b.cpp", "\n" * 501)
    write(tmp_path, "tests/unit/b_test.cpp", "\n" * 601)
    write(tmp_path, "tools/c", "\n" * 501)
    code, output = check("check_lengths", tmp_path)
    assert code == 1
    assert [line.split(":")[0] for line in output.splitlines()] == [
        "src/gimbal/base/b.cpp",
        "tools/c",
        "tests/unit/b_test.cpp",
    ]

"""The package itself: light imports, stubs that tell the truth, examples that run."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gimbal
from gimbal import _native, balance

REPOSITORY = Path(__file__).resolve().parents[3]


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, env=os.environ | environment, cwd=REPOSITORY
    )


def test_nothing_but_numpy_is_imported() -> None:
    code = """
import sys, gimbal
early = [m for m in ("numpy", "torch") if m in sys.modules]
import gimbal.balance, numpy
gimbal.balance.BalancedBatchSampler(numpy.ones((9, 1), numpy.uint32), [3], rank=0, world_size=1).steps
print(early, [m for m in ("torch", "transformers", "pyarrow", "tokenizers", "PIL") if m in sys.modules])
"""
    result = python("-c", code)
    assert result.stdout == "[] []\n", result.stderr


def test_the_version_is_the_same_everywhere() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", gimbal.__version__)
    assert _native.__version__ == gimbal.__version__


def test_all_names_are_there_and_documented() -> None:
    for name in balance.__all__:
        assert (getattr(balance, name).__doc__ or "").strip(), name


def stub_members(body: list[ast.stmt]) -> dict[str, ast.AST]:
    members: dict[str, ast.AST] = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            members[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            members[node.target.id] = node
    return members


def public(value: object) -> set[str]:
    return {name for name in vars(value) if not name.startswith("_") or name in ("__len__", "__version__")}


def check_parameters(stub: ast.FunctionDef, real: object, where: str) -> None:
    """The stub's parameters against the first line of pybind11's docstring: names, order and number."""
    signature = (real.__doc__ or "").split("\n")[0]
    arguments = stub.args
    names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs if a.arg != "self"]
    words = re.findall(r"(\w+): ", signature.split(" -> ")[0])
    found = [word for word in words if word != "self" and not re.fullmatch(r"arg0", word)]
    assert names == found, f"{where}: {names} in the stub, {signature} in the extension"


def test_stubs_name_what_the_extension_has() -> None:
    stub = ast.parse((REPOSITORY / "python/gimbal/_native.pyi").read_text(encoding="utf-8"))
    members = stub_members(stub.body)
    assert {name for name in members if not re.match(r"_[A-Z]", name)} == public(_native)
    for name, node in members.items():
        real = getattr(_native, name, None)
        if isinstance(node, ast.FunctionDef):
            check_parameters(node, real, name)
        elif isinstance(node, ast.ClassDef) and name not in ("Method", "Oversize"):
            inner = stub_members(node.body)
            assert {member for member in inner if member != "__init__"} == public(real), name
            for member, function in inner.items():
                decorators = [ast.unparse(d) for d in getattr(function, "decorator_list", [])]
                assert isinstance(inspect.getattr_static(real, member), property) == ("property" in decorators), member
                if isinstance(function, ast.FunctionDef) and "property" not in decorators and member != "__len__":
                    check_parameters(function, getattr(real, member), f"{name}.{member}")
        elif isinstance(node, ast.ClassDef):
            values = [target.id for n in node.body if isinstance(n, ast.Assign) for target in n.targets]
            assert values == list(real.__members__)


def test_optional_packages_are_optional() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "gimbal-train" and len(project["dependencies"]) == 1
    assert project["dependencies"][0].startswith("numpy")


def test_the_pytorch_example_runs_and_resumes(tmp_path) -> None:
    pytest.importorskip("torch")
    example = str(REPOSITORY / "examples/balance_pytorch.py")
    whole = python(example, "--steps", "12", "--samples", "120", "--checkpoint", str(tmp_path / "whole"))
    assert whole.returncode == 0 and "step 12" in whole.stdout, whole.stderr
    for steps in ("5", "12"):
        part = python(example, "--steps", steps, "--samples", "120", "--checkpoint", str(tmp_path / "part"))
        assert part.returncode == 0, part.stderr
    assert part.stdout == whole.stdout


@pytest.mark.slow
def test_the_pytorch_example_goes_on_on_another_number_of_ranks(tmp_path) -> None:
    pytest.importorskip("torch")
    example, words = str(REPOSITORY / "examples/balance_pytorch.py"), ["--samples", "120", "--checkpoint"]
    whole = python(example, "--steps", "12", *words, str(tmp_path / "whole"))
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
    part = python(*launch, "2", example, "--steps", "5", *words, str(tmp_path / "part"), OMP_NUM_THREADS="1")
    assert "step 5" in part.stdout, part.stderr
    rest = python(example, "--steps", "12", *words, str(tmp_path / "part"))
    assert rest.stdout == whole.stdout


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="Trainer needs accelerate")
def test_the_trainer_example_runs_and_resumes(tmp_path) -> None:
    pytest.importorskip("transformers")
    example, out = str(REPOSITORY / "examples/balance_hf_trainer.py"), str(tmp_path / "run")
    first = python(example, "--out", out, "--steps", "5", "--samples", "40")
    assert first.returncode == 0 and (tmp_path / "run/checkpoint-5").is_dir(), first.stderr
    second = python(example, "--out", out, "--samples", "40", "--resume")
    assert second.returncode == 0 and "train_loss" in second.stdout, second.stderr

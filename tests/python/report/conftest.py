import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import synthetic  # noqa: E402


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return synthetic.make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, model) -> Path:
    return synthetic.make_dataset(tmp_path_factory.mktemp("dataset"), model)


@pytest.fixture
def run(tmp_path, dataset, model) -> Path:
    return synthetic.make_run(tmp_path / "made", dataset, model, steps=30)

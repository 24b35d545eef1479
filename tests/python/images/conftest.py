from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from image_tool import ImageTool, tool_path  # noqa: E402


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageTool]:
    if not tool_path().exists():
        pytest.skip(f"{tool_path()} is not built: run make test, or set GIMBAL_BUILD_DIR to a build folder")
    running = ImageTool(tmp_path_factory.mktemp("image_tool"))
    yield running
    running.close()

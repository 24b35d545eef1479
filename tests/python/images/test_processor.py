"""The image processor equals transformers' GotOcr2ImageProcessorPil."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from image_tool import ImageTool, ToolError
from PIL import Image
from test_decode import picture
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

DEFAULTS = {
    "type": "GotOcr2ImageProcessor",
    "height": 28,
    "width": 28,
    "resample": 3,
    "crop_to_patches": True,
    "min_patches": 1,
    "max_patches": 12,
    "use_thumbnail": True,
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_convert_rgb": True,
}


def compare(tool: ImageTool, folder: Path, image: Path, **changes: object) -> np.ndarray:
    """Both processors on one picture; returns the tiles after asserting that they are the same bits."""
    config = DEFAULTS | changes
    config_path = folder / "processor.json"
    config_path.write_text(json.dumps(config))
    size = (config["height"], config["width"])
    arguments = {key: value for key, value in config.items() if key not in ("type", "height", "width", "use_thumbnail")}
    peer = GotOcr2ImageProcessorPil(size={"height": size[0], "width": size[1]}, **arguments)
    with Image.open(image) as opened:
        rgb = opened.convert("RGB")
    expected = np.stack(peer(images=[rgb])["pixel_values"])
    grid = (1, 1)
    if config["crop_to_patches"] and config["max_patches"] > 1:
        grid = get_optimal_tiled_canvas((rgb.height, rgb.width), size, config["min_patches"], config["max_patches"])
    found = tool.process_image(config_path, image, grid, size)
    assert found.shape == expected.shape
    assert np.array_equal(found, expected.astype(np.float32)), np.abs(found - expected).max()
    return found


SIZES = [(28, 28), (56, 28), (1, 1), (3, 3), (1, 40), (40, 1), (27, 29), (100, 30), (30, 100), (333, 222), (640, 480), (97, 1200)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("crop_to_patches", [False, True])
def test_sizes_and_filters(
    tool: ImageTool, tmp_path: Path, size: tuple[int, int], resample: int, crop_to_patches: bool
) -> None:
    image = tmp_path / "a.png"
    Image.fromarray(picture(*size)).save(image)
    compare(tool, tmp_path, image, resample=resample, crop_to_patches=crop_to_patches)


def test_random_sizes(tool: ImageTool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    num_cut = 0
    for seed in range(60):
        width, height = (int(v) for v in rng.integers(1, 400, 2))
        image = tmp_path / "a.png"
        # Pure noise in black and white overshoots most: clipping counts.
        noise = rng.integers(0, 2, (height, width, 3), dtype=np.uint8) * 255 if seed % 2 else picture(width, height, 3, seed)
        Image.fromarray(noise).save(image)
        tiles = compare(
            tool,
            tmp_path,
            image,
            height=int(rng.integers(1, 60)),
            width=int(rng.integers(1, 60)),
            resample=int(rng.integers(0, 6)),
            min_patches=int(rng.integers(1, 4)),
            max_patches=int(rng.integers(4, 13)),
        )
        num_cut += len(tiles) > 1
    assert num_cut > 20


@pytest.mark.parametrize("do_rescale", [False, True])
@pytest.mark.parametrize("do_normalize", [False, True])
def test_rescale_and_normalize(tool: ImageTool, tmp_path: Path, do_rescale: bool, do_normalize: bool) -> None:
    image = tmp_path / "a.png"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(image)
    for factor in (1 / 255, 1 / 127.5, 0.00392156862745098):
        changes = {"do_rescale": do_rescale, "do_normalize": do_normalize, "rescale_factor": factor}
        compare(tool, tmp_path, image, height=16, width=16, crop_to_patches=False, **changes)


def test_no_resize(tool: ImageTool, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.fromarray(picture(28, 28)).save(image)
    compare(tool, tmp_path, image, crop_to_patches=False, do_resize=False)
    Image.fromarray(picture(28, 29)).save(image)
    config = tmp_path / "processor.json"
    config.write_text(json.dumps(DEFAULTS | {"crop_to_patches": False, "do_resize": False}))
    with pytest.raises(ToolError, match="does not resize"):
        tool.process_image(config, image, (1, 1), (28, 28))


def test_large_tiles_of_a_photo_sized_jpeg(tool: ImageTool, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    Image.fromarray(picture(1600, 1200)).save(image, quality=90)
    tiles = compare(tool, tmp_path, image, height=448, width=448)
    assert len(tiles) == 13


def test_grid_must_follow_from_the_configuration(tool: ImageTool, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.fromarray(picture(28, 28)).save(image)
    config = tmp_path / "processor.json"
    config.write_text(json.dumps(DEFAULTS | {"crop_to_patches": False}))
    with pytest.raises(ToolError, match="a grid of 2 x 1 tiles"):
        tool.process_image(config, image, (2, 1), (28, 28))

"""How many tiles a picture is cut into: InternVL's dynamic tiling, in the arithmetic of `transformers`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Tiling:
    """A grid of tiles; `rows` is what the picture adds to the vision stream (tiles, and a thumbnail if cut)."""

    grid_columns: int
    grid_rows: int
    rows: int


@lru_cache(maxsize=16)
def grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """All (columns, rows) with a number of tiles in the range, by number of tiles, then by columns."""
    found = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles // columns + 1)
        if columns * rows >= min_tiles
    ]
    # The order decides ties below: the sort must keep columns ascending among grids of equal area.
    return tuple(sorted(found, key=lambda grid: grid[0] * grid[1]))


@lru_cache(maxsize=65536)
def best_grid(
    width: int, height: int, tile_width: int, tile_height: int, min_tiles: int, max_tiles: int
) -> tuple[int, int]:
    """The (columns, rows) whose shape is nearest to the picture's.

    Of equally near grids a later (larger) one wins as long as the picture has more than half its pixels.
    """
    ratio = width / height
    nearest, best = float("inf"), (1, 1)
    for columns, rows in grids(min_tiles, max_tiles):
        distance = abs(ratio - columns / rows)
        if distance < nearest:
            nearest, best = distance, (columns, rows)
        elif distance == nearest and width * height > 0.5 * tile_height * tile_width * columns * rows:
            best = (columns, rows)
    return best


def tile(width: int, height: int, processor: dict) -> Tiling:
    """The tiling of a picture under the manifest's `image_processor` settings."""
    if not processor["crop_to_patches"] or processor["max_patches"] <= 1:
        return Tiling(1, 1, 1)
    columns, rows = best_grid(
        width, height, processor["width"], processor["height"], processor["min_patches"], processor["max_patches"]
    )
    tiles = columns * rows
    return Tiling(columns, rows, tiles + (1 if tiles > 1 and processor["use_thumbnail"] else 0))

"""Tiling against the arithmetic of `transformers`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil, get_optimal_tiled_canvas

from gimbal.prepare.model import PROCESSOR_DEFAULTS
from gimbal.prepare.tiling import tile

sides = st.one_of(st.integers(1, 70), st.integers(1, 5000))


@settings(max_examples=400, deadline=None)
@given(sides, sides, st.integers(1, 6), st.integers(0, 12), st.sampled_from([(16, 16), (448, 448), (32, 48)]), st.booleans())
def test_tile_equals_transformers(width, height, low, more, size, crop):
    high = low + more
    settings = {"crop_to_patches": crop, "min_patches": low, "max_patches": high, "height": size[0], "width": size[1], "use_thumbnail": True}
    peer = GotOcr2ImageProcessorPil(
        crop_to_patches=crop, min_patches=low, max_patches=high, size={"height": size[0], "width": size[1]}
    )
    result = tile(width, height, settings)
    assert result.rows == peer.get_number_of_image_patches(height, width)
    if crop and high > 1:
        assert (result.grid_columns, result.grid_rows) == get_optimal_tiled_canvas((height, width), size, low, high)
    else:
        assert (result.grid_columns, result.grid_rows) == (1, 1)


@pytest.mark.parametrize("key", sorted(set(PROCESSOR_DEFAULTS) - {"crop_to_patches", "rescale_factor"}))
def test_defaults_are_those_of_transformers(key):
    value = getattr(GotOcr2ImageProcessorPil, key)
    assert PROCESSOR_DEFAULTS[key] == (int(value) if key == "resample" else list(value) if isinstance(value, (list, tuple)) else value)


def test_crop_default_is_that_of_the_internvl_processor():
    from transformers import InternVLProcessor

    assert PROCESSOR_DEFAULTS["crop_to_patches"] is InternVLProcessor.images_kwargs["crop_to_patches"]

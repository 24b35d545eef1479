"""Decoding equals Pillow's Image.open + exif_transpose + convert("RGB"), pixel for pixel."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from image_tool import ImageTool, ToolError
from PIL import Image, ImageOps, PngImagePlugin

ORIENTATION = 0x0112


def picture(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise: exercises all frequencies without being pure noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (5 + 3 * c)) * np.cos(y / (7 + 2 * c)) * 90 + 128 for c in range(channels)]
    noisy = np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def pillow_rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def assert_same(tool: ImageTool, path: Path) -> None:
    expected = pillow_rgb(path)
    found = tool.decode(path)
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() == 0, f"{path.name}: {np.count_nonzero(difference)} values differ, at most {difference.max()}"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, color: int, rows: bytes, extra: bytes = b"", tail: bytes = b"") -> bytes:
    """A PNG from packed rows without filters, for kinds that Pillow does not write."""
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = extra + png_chunk(b"IDAT", zlib.compress(filtered)) + tail
    return b"\x89PNG\r\n\x1a\n" + head + body + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (33, 17), (200, 130)])
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 30, "subsampling": 0},
        {"quality": 75, "subsampling": 1},
        {"quality": 95, "subsampling": 2},
        {"quality": 80, "progressive": True},
        {"quality": 80, "restart_marker_rows": 1},
        {"quality": 80, "keep_rgb": True},
    ],
    ids=str,
)
def test_jpeg(tool: ImageTool, tmp_path: Path, size: tuple[int, int], options: dict) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(*size)).save(path, **options)
    assert_same(tool, path)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_modes(tool: ImageTool, tmp_path: Path, mode: str, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    channels = picture(61, 43, 4)
    image = Image.fromarray(channels[..., 0], "L") if mode == "L" else Image.fromarray(channels, "CMYK")
    image.save(path, quality=85, progressive=progressive)
    assert_same(tool, path)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (201, 130)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_png_modes(tool: ImageTool, tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    path = tmp_path / "a.png"
    channels = picture(*size, 4)
    if mode == "I;16":
        wide = np.random.default_rng(1).integers(0, 2**16, size[::-1], dtype=np.uint16)
        wide.flat[::2] %= 300
        image = Image.fromarray(wide)
    elif mode == "P":
        image = Image.fromarray(channels[..., :3]).quantize(37)
    elif mode == "LA":
        image = Image.fromarray(np.ascontiguousarray(channels[..., :2]), "LA")
    elif mode == "RGBA":
        image = Image.fromarray(channels)
    else:
        image = Image.fromarray(channels[..., :3]).convert(mode)
    image.save(path)
    assert_same(tool, path)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_palette_with_transparency(tool: ImageTool, tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray(picture(45, 31)).quantize(2**bits)
    image.save(path, bits=bits, transparency=bytes([0, 128]))
    assert_same(tool, path)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_png_palette_index_beyond_its_end_is_black(tool: ImageTool, tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.png"
    rows = np.random.default_rng(depth).integers(0, 256, 6 * depth * 2, dtype=np.uint8).tobytes()
    path.write_bytes(raw_png(16, 6, depth, 3, rows, png_chunk(b"PLTE", bytes([9, 8, 7]))))
    assert_same(tool, path)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_grey_depths(tool: ImageTool, tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.png"
    rows = np.random.default_rng(depth).integers(0, 256, 6 * depth * 2, dtype=np.uint8).tobytes()
    path.write_bytes(raw_png(16, 6, depth, 0, rows, png_chunk(b"tRNS", b"\0\1")))
    assert_same(tool, path)


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_png_16_bit_colours(tool: ImageTool, tmp_path: Path, color: int, channels: int) -> None:
    path = tmp_path / "a.png"
    rows = np.random.default_rng(color).integers(0, 256, 5 * 16 * channels * 2, dtype=np.uint8).tobytes()
    path.write_bytes(raw_png(16, 5, 16, color, rows))
    assert_same(tool, path)


def test_png_gamma_and_interlace(tool: ImageTool, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rgb = picture(13, 11)
    # Adam7 by hand: seven passes over a picture without filters.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    data = b""
    for x, y, dx, dy in passes:
        for row in rgb[y::dy, x::dx]:
            if len(row):
                data += b"\0" + row.tobytes()
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 13, 11, 8, 2, 0, 0, 1))
    gamma = png_chunk(b"gAMA", struct.pack(">I", 45455))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + gamma + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b""))
    assert np.array_equal(tool.decode(path), rgb)
    assert_same(tool, path)


@pytest.mark.parametrize("size", [(1, 1), (16, 9), (75, 50), (130, 201)])
@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}, {"quality": 50, "alpha_quality": 40}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp(tool: ImageTool, tmp_path: Path, size: tuple[int, int], options: dict, mode: str) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(picture(*size, len(mode))).save(path, **options)
    assert_same(tool, path)


@pytest.mark.parametrize("lossless", [False, True])
def test_webp_animation_gives_its_first_frame(tool: ImageTool, tmp_path: Path, lossless: bool) -> None:
    path = tmp_path / "a.webp"
    frames = []
    for seed in range(3):
        frame = np.zeros((40, 60, 4), dtype=np.uint8)
        frame[10:30, 12:50] = picture(38, 20, 4, seed)  # the encoder stores only this part
        frames.append(Image.fromarray(frame))
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=lossless, duration=50)
    assert_same(tool, path)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_exif_orientation(tool: ImageTool, tmp_path: Path, orientation: int, suffix: str, big_endian: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    order = ">" if big_endian else "<"
    head = (b"MM" if big_endian else b"II") + struct.pack(order + "HI", 42, 8)
    entries = struct.pack(order + "HHHI", 2, 0x010F, 2, 4) + b"abc\0"
    entries += struct.pack(order + "HHIHH", ORIENTATION, 3, 1, orientation, 0) + struct.pack(order + "I", 0)
    Image.fromarray(picture(24, 10)).save(path, exif=b"Exif\0\0" + head + entries, lossless=True)
    assert tool.decode(path).shape[:2] == ((24, 10) if 5 <= orientation <= 8 else (10, 24))
    assert_same(tool, path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("text", ['tiff:Orientation="6"', "<tiff:Orientation>8</tiff:Orientation>"])
def test_xmp_orientation(tool: ImageTool, tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(picture(24, 10))
    if suffix == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", f"<x {text}/>")
        image.save(path, pnginfo=info)
    else:
        image.save(path, xmp=f"<x {text}/>".encode())
    assert tool.decode(path).shape[:2] == (24, 10)
    assert_same(tool, path)


def test_exif_of_imagemagick_and_after_the_pixels(tool: ImageTool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = exif.tobytes()
    rows = picture(24, 10).tobytes()
    for compressed in (False, True):
        info = PngImagePlugin.PngInfo()
        info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=compressed)
        path = tmp_path / f"raw_{compressed}.png"
        Image.fromarray(picture(24, 10)).save(path, pnginfo=info)
        assert tool.decode(path).shape[:2] == (24, 10)
        assert_same(tool, path)
    path = tmp_path / "after.png"
    path.write_bytes(raw_png(24, 10, 8, 2, rows, tail=png_chunk(b"eXIf", data[6:])))
    assert tool.decode(path).shape[:2] == (24, 10)
    assert_same(tool, path)


def test_damaged_exif_is_no_orientation(tool: ImageTool, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = exif.tobytes()
    for end in range(6, len(data) - 4):
        path = tmp_path / "a.png"
        path.write_bytes(raw_png(24, 10, 8, 2, picture(24, 10).tobytes(), png_chunk(b"eXIf", data[6:end])))
        assert tool.decode(path).shape[:2] in [(10, 24), (24, 10)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_truncation_at_any_place_is_an_error_or_pillows_picture(tool: ImageTool, tmp_path: Path, suffix: str) -> None:
    buffer = BytesIO()
    Image.fromarray(picture(40, 64)).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    whole = buffer.getvalue()
    path = tmp_path / f"a.{suffix}"
    num_errors = 0
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        try:
            expected = pillow_rgb(path)
        except Exception:
            expected = None
        if expected is None:
            with pytest.raises(ToolError, match=str(path)):
                tool.decode(path)
            num_errors += 1
            continue
        try:
            assert np.array_equal(tool.decode(path), expected)
        except ToolError:
            # Pillow shows a PNG that lacks only its last checksums; a cut file is an error here.
            assert suffix == "png" and size > len(whole) - 24
    assert num_errors > 10


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damage_never_kills(tool: ImageTool, tmp_path: Path, suffix: str) -> None:
    buffer = BytesIO()
    Image.fromarray(picture(40, 30)).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    whole = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    rng = np.random.default_rng(3)
    num_errors = 0
    for _ in range(200):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            tool.decode(path)
        except ToolError as error:
            assert str(error).startswith(str(path))
            num_errors += 1
    assert num_errors > 0


def test_messages(tool: ImageTool, tmp_path: Path) -> None:
    jpeg, png = BytesIO(), BytesIO()
    Image.fromarray(picture(64, 64)).save(jpeg, "JPEG", quality=95)
    Image.fromarray(picture(64, 64)).save(png, "PNG")
    huge = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0))
    cases = {
        "half.jpg": (jpeg.getvalue()[: len(jpeg.getvalue()) // 2], r"the JPEG ends early \(row \d+ of 64\)"),
        "head.jpg": (jpeg.getvalue()[:30], "the JPEG ends early, inside its header"),
        "half.png": (png.getvalue()[: len(png.getvalue()) // 2], r"the PNG ends early \(row \d+ of 64\)"),
        "text.png": (b"this is no picture", "this is no JPEG, PNG or WebP picture"),
        "empty.png": (b"", "the file is empty"),
        "huge.png": (b"\x89PNG\r\n\x1a\n" + huge, "are refused|image size exceeds|ends early"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ToolError, match=f"^{path}: .*{message}"):
            tool.decode(path)
    with pytest.raises(ToolError, match="missing.png"):
        tool.decode(tmp_path / "missing.png")

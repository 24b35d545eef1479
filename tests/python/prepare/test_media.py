"""Picture sizes from headers, and each way in which a picture can be unusable."""

import base64
import io
import struct

import pytest
from prepare_samples import rejections, talk
from PIL import Image, ImageOps

from gimbal.prepare import media as media_module
from gimbal.prepare.media import MediaReader
from gimbal.prepare.reject import Reject

ONE_TILE = {"crop_to_patches": False, "max_patches": 1}


@pytest.fixture()
def reader(folder):
    return MediaReader(ONE_TILE, str(folder))


def encoded(width=20, height=10, kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("name, size", [("a.png", (40, 16)), ("b.jpg", (33, 64)), ("c.webp", (16, 16))])
def test_size_from_header(reader, folder, name, size):
    item = reader.read(name, str(folder))
    assert (item.width, item.height) == size
    assert item.path == name.encode() and item.byte_size == (folder / name).stat().st_size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_size(reader, folder, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(folder / "turned.jpg", exif=exif)
    item = reader.read("turned.jpg", str(folder))
    assert (item.width, item.height) == ((20, 30) if orientation >= 5 else (30, 20))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_file_passes_because_its_header_is_whole(reader, folder, kind):
    stream = io.BytesIO()
    Image.effect_noise((200, 100), 90).save(stream, kind)
    (folder / "cut.png").write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    with pytest.raises((OSError, SyntaxError)):
        Image.open(folder / "cut.png").load()
    assert reader.read("cut.png", str(folder)).width == 200


@pytest.mark.parametrize("late", [False, True])
def test_exif_of_a_png_counts_wherever_it_stands(reader, folder, late):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(folder / "turned.png", exif=exif)
    data = (folder / "turned.png").read_bytes()
    begin = data.index(b"eXIf") - 4
    chunk = data[begin : begin + 12 + int.from_bytes(data[begin : begin + 4], "big")]
    if late:
        rest = data.replace(chunk, b"")
        end = rest.index(b"IEND") - 4
        (folder / "turned.png").write_bytes(rest[:end] + chunk + rest[end:])
    assert ImageOps.exif_transpose(Image.open(folder / "turned.png")).size == (20, 30)
    item = reader.read("turned.png", str(folder))
    assert (item.width, item.height) == (20, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_means_upright(reader, folder, kind):
    Image.new("RGB", (30, 20)).save(folder / "x.png", kind, exif=b"Exif\0\0nonsense")
    item = reader.read("x.png", str(folder))
    assert (item.width, item.height) == (30, 20)


def test_links_and_spellings_are_one_item(reader, folder):
    (folder / "link.png").symlink_to(folder / "a.png")
    (folder / "sub").mkdir()
    names = ["a.png", "link.png", "./sub/../a.png", str(folder / "a.png"), f"file://{folder}/a.png"]
    assert len({reader.read(name, str(folder)).key for name in names}) == 1


def test_blob_and_data_url_with_the_same_bytes_are_one_item(reader, folder):
    url = "data:image/png;base64," + base64.b64encode(encoded()).decode()
    assert reader.read(url, str(folder)).key == reader.read(encoded(), str(folder)).key


def test_cache_stays_bounded(reader, folder, monkeypatch):
    monkeypatch.setattr(media_module, "_CACHE_ITEMS", 2)
    for name in ("a.png", "b.jpg", "c.webp", "a.png"):
        reader.read(name, str(folder))
    assert len(reader._files) == 2


def zero_width_png():
    data = bytearray(encoded())
    data[16:20] = struct.pack(">I", 0)
    return bytes(data)


@pytest.mark.parametrize(
    "content, reason, words",
    [
        (None, "missing_file", "No such file"),
        (b"", "zero_size_image", "empty"),
        (b"just a text\n", "unreadable_image", "not a picture"),
        (encoded()[:20], "unreadable_image", ""),
        (encoded(kind="BMP"), "unsupported_image", "BMP"),
        (encoded(kind="GIF"), "unsupported_image", "GIF"),
    ],
    ids=["missing", "empty", "text", "cut_header", "bmp", "gif"],
)
def test_unusable_file(reader, folder, content, reason, words):
    if content is not None:
        (folder / "x.png").write_bytes(content)
    for _ in range(2):
        with pytest.raises(Reject) as caught:
            reader.read("x.png", str(folder))
        assert caught.value.reason == reason
        assert words in caught.value.detail and str(folder / "x.png") in caught.value.detail


def test_zero_width_is_rejected(reader, folder):
    with pytest.raises(Reject) as caught:
        reader.read(zero_width_png(), str(folder))
    assert caught.value.reason in ("zero_size_image", "unreadable_image")


def test_folder_in_place_of_a_file(reader, folder):
    with pytest.raises(Reject) as caught:
        reader.read(".", str(folder))
    assert caught.value.reason == "missing_file"


@pytest.mark.parametrize(
    "reference, reason",
    [
        ("https://example.com/a.png", "remote_image"),
        ("data:image/png;base64,@@@", "bad_data_url"),
        ("data:image/png,abc", "bad_data_url"),
        ("data:image/png;base64,", "zero_size_image"),
        (b"abc", "unreadable_image"),
        ("a\0b", "missing_file"),
    ],
)
def test_unusable_reference(reader, folder, reference, reason):
    with pytest.raises(Reject) as caught:
        reader.read(reference, str(folder))
    assert caught.value.reason == reason


def test_rejected_samples_name_file_and_line(build, folder):
    data = build([talk("q", "a", "a.png"), talk("q", "a", "gone.png"), "{broken", talk("q", "a", "a.png")])
    assert len(data) == 2
    found = data.first_rejections(9)
    assert [(line["line"], line["reason"]) for line in found] == [(2, "missing_file"), (3, "invalid_json")]
    assert found[0]["detail"].startswith(str(folder / "gone.png")) and found[0]["source"] == "s"
    assert data.rejections() == {"invalid_json": 1, "missing_file": 1}


def test_text_models_reject_images(build):
    data = build([talk("q", "a", "a.png"), talk()], model="qwen2")
    assert rejections(data) == [("images_not_supported", "1 images, but the model folder is a text model")]


@pytest.mark.parametrize(
    "sample, reason",
    [
        ({"messages": [{"role": "user", "content": "only a question"}]}, "no_loss"),
        ({"messages": [{"role": "assistant", "content": "x", "loss": False}]}, "no_loss"),
        ({"text": ""}, "no_loss"),
        (r'{"text": "\ud800"}', "invalid_json"),
        (r'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\ud800"}]}', "invalid_json"),
    ],
)
def test_samples_without_use(build, sample, reason):
    data = build([sample, talk()])
    assert len(data) == 1 and data.rejections() == {reason: 1}


def test_every_reason_has_a_test():
    from pathlib import Path

    from gimbal.prepare.reject import REASONS

    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [reason for reason in REASONS if f'"{reason}"' not in tests] == []

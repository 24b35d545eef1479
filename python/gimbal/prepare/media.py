"""Resolves image references and reads picture sizes from headers; pixels are never decoded."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import struct
import urllib.parse
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from gimbal.prepare.reject import Reject
from gimbal.prepare.tiling import Tiling, tile

# Only what the trainer decodes; MPO is how Pillow calls a JPEG with further pictures behind the first.
_FORMATS = {"JPEG", "MPO", "PNG", "WEBP"}
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_CACHE_ITEMS = 65536

# A header that claims a huge picture is the trainer's memory to judge, not a reason for a warning per file.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One distinct picture. `key` identifies it; a file has a `path`, an embedded one a `blob`."""

    key: bytes
    path: bytes
    blob: bytes | None
    byte_size: int
    content_hash: int
    width: int
    height: int
    tiling: Tiling


class MediaReader:
    """Turns references into items. Sizes are remembered per file, within a bounded memory."""

    def __init__(self, processor: dict, stored_root: str) -> None:
        """`stored_root`: paths below this folder are stored relative to it."""
        self._processor = processor
        self._root = stored_root.rstrip("/") + "/"
        self._files: OrderedDict[tuple[str, str], MediaItem | Reject] = OrderedDict()

    def read(self, reference: str | bytes, folder: str) -> MediaItem:
        """Raises Reject. Relative paths start from `folder`."""
        if isinstance(reference, bytes):
            return self._blob(reference, "embedded image")
        if reference.startswith("data:"):
            return self._blob(_decode_data_url(reference), "data URL")
        if reference.startswith(("http://", "https://")):
            raise Reject("remote_image", f"{reference}: download it and refer to the file")
        key = (folder, reference)
        found = self._files.get(key)
        if found is None:
            try:
                found = self._file(reference, folder)
            except Reject as reject:
                found = reject
            self._files[key] = found
            if len(self._files) > _CACHE_ITEMS:
                self._files.popitem(last=False)
        if isinstance(found, Reject):
            raise Reject(found.reason, found.detail)
        return found

    def _file(self, reference: str, folder: str) -> MediaItem:
        name = reference
        if name.startswith("file://"):
            name = urllib.parse.unquote(name.removeprefix("file://"))
        if "\0" in name:
            raise Reject("missing_file", f"{name!r}: a path can't hold a null character")
        path = os.path.realpath(os.path.join(folder, name))
        try:
            with open(path, "rb") as file:
                byte_size = os.fstat(file.fileno()).st_size
                width, height = _header_size(file, byte_size, path)
        except OSError as error:
            raise Reject("missing_file", f"{path}: {error.strerror or error}") from error
        stored = path.removeprefix(self._root) if path.startswith(self._root) else path
        digest = hashlib.blake2b(b"file" + os.fsencode(path), digest_size=16).digest()
        return MediaItem(
            digest, os.fsencode(stored), None, byte_size, 0, width, height, tile(width, height, self._processor)
        )

    def _blob(self, data: bytes, name: str) -> MediaItem:
        digest = hashlib.sha256(data).digest()
        width, height = _header_size(io.BytesIO(data), len(data), name)
        content_hash = int.from_bytes(digest[:8], "little")
        return MediaItem(
            digest[:16], b"", data, len(data), content_hash, width, height, tile(width, height, self._processor)
        )


def _header_size(file, byte_size: int, name: str) -> tuple[int, int]:
    """(width, height) as shown: after the EXIF orientation."""
    if byte_size == 0:
        raise Reject("zero_size_image", f"{name}: the file is empty")
    try:
        with Image.open(file) as image:
            if image.format not in _FORMATS:
                raise Reject("unsupported_image", f"{name}: {image.format}; convert it to JPEG, PNG or WebP")
            width, height = image.size
            if _orientation(image, file) in _SIDEWAYS:
                width, height = height, width
    except UnidentifiedImageError:
        raise Reject("unreadable_image", f"{name}: not a picture, or its header is broken") from None
    except Reject:
        raise
    except Exception as error:
        # Pillow's parsers raise many types (SyntaxError, struct.error, ...) on broken headers.
        raise Reject("unreadable_image", f"{name}: {type(error).__name__}: {error}") from error
    if width < 1 or height < 1:
        raise Reject("zero_size_image", f"{name}: {width} x {height} pixels")
    return width, height


def _orientation(image: Image.Image, file) -> int | None:
    """The EXIF (or XMP) orientation; None if there is none, or if the block that would hold it is no EXIF."""
    try:
        # The method of PNG images decodes the pixels to see what follows them; the base class's doesn't.
        found = Image.Image.getexif(image).get(_ORIENTATION_TAG)
        if found is None and image.format == "PNG" and "exif" not in image.info:
            for name, size in _png_chunks(file):
                if name == b"eXIf":
                    exif = Image.Exif()
                    exif.load(b"Exif\0\0" + file.read(size))
                    return exif.get(_ORIENTATION_TAG)
        return found
    except (SyntaxError, ValueError, KeyError, TypeError, IndexError, OSError, struct.error):
        return None


def _png_chunks(file):
    """(name, size) of each chunk of a PNG, with the file at its data; ends where the file is cut off."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        yield head[4:], size
        place += size + 12


def _decode_data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise Reject("bad_data_url", f"{url[:40]}...: expected data:image/...;base64,...")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Reject("bad_data_url", f"{url[:40]}...: {error}") from error

"""Why a sample can't be used: the closed list of reasons that `rejected.jsonl` and the summary speak of."""

from __future__ import annotations

REASONS = {
    "invalid_json": "the line is not a JSON object",
    "unknown_format": "neither `messages`, `conversations` nor `text`, or a field of the wrong type",
    "unsupported_content": "video, audio or another part that the model family has no encoder for",
    "images_not_supported": "the model folder is a text model",
    "placeholder_count": "number of image placeholders and number of images differ",
    "missing_file": "an image file does not exist or can't be opened",
    "remote_image": "an image is a web address; download it first",
    "unreadable_image": "a file or blob is not a picture, or its header is broken",
    "unsupported_image": "a picture in a format other than JPEG, PNG or WebP",
    "zero_size_image": "a picture (or its file) is empty",
    "bad_data_url": "a data URL is not valid base64",
    "template": "the chat template refuses the messages, or the assistant's turns can't be located",
    "no_loss": "no token of the sample would be trained on",
    "too_long": "more tokens than --max-tokens",
}


class Reject(Exception):
    """Raised while a sample is processed; the sample is counted and listed, the others go on."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

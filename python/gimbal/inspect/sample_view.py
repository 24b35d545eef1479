"""Shows a sample as text, with what is trained on marked."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from gimbal.dataset import Dataset, Sample

IMAGE_KEYS = ("name", "width", "height", "grid_columns", "grid_rows", "rows", "byte_size")
_ON, _OFF = "\x1b[1;32m", "\x1b[0m"


def decode_segments(tokens, spans: list[tuple[int, int]], tokenizer, image_token_id: int) -> list[dict[str, Any]]:
    """Stretches of equal loss; a run of image tokens is written as `<token x count>`."""
    trained = [False] * len(tokens)
    for begin, end in spans:
        trained[begin:end] = [True] * (end - begin)
    segments = []
    for loss, group in groupby(range(len(tokens)), key=trained.__getitem__):
        places = list(group)
        text = ""
        for is_image, run in groupby(places, key=lambda i: int(tokens[i]) == image_token_id):
            ids = [int(tokens[i]) for i in run]
            if is_image:
                text += f"<{tokenizer.convert_ids_to_tokens(ids[0])} x {len(ids)}>"
            else:
                text += tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        segments.append({"begin": places[0], "end": places[-1] + 1, "loss": loss, "text": text})
    return segments


def describe_sample(data: Dataset, i: int, sample: Sample, tokenizer) -> dict[str, Any]:
    """A sample as a JSON-ready value."""
    source, file, line = data.source_of(sample.record)
    return {
        "sample": i,
        "source": source,
        "file": file,
        "line": line,
        "num_tokens": len(sample.tokens),
        "num_loss_tokens": int(sample.record["num_loss_tokens"]),
        "vision_rows": int(sample.record["vision_rows"]),
        "images": [{key: getattr(item, key) for key in IMAGE_KEYS} for item in sample.media],
        "segments": decode_segments(sample.tokens, sample.spans, tokenizer, data.manifest["model"]["image_token_id"]),
    }


def format_sample(value: dict[str, Any], color: bool) -> list[str]:
    """Lines of text; what is trained on is green on a terminal and in brackets elsewhere."""
    lines = [
        f"sample {value['sample']}: {value['file']}, line {value['line']} (source {value['source']}); "
        f"{value['num_tokens']:,} tokens, {value['num_loss_tokens']:,} with loss, {value['vision_rows']:,} tiles"
    ]
    for number, image in enumerate(value["images"], 1):
        grid = f"{image['grid_columns']} x {image['grid_rows']} tiles"
        thumbnail = image["rows"] - image["grid_columns"] * image["grid_rows"]
        lines.append(
            f"  image {number}: {image['width']} x {image['height']} pixels, {grid}"
            f"{' and a thumbnail' if thumbnail else ''}, {image['name']}"
        )
    opening, closing = (_ON, _OFF) if color else ("[[", "]]")
    text = "".join(f"{opening}{s['text']}{closing}" if s["loss"] else s["text"] for s in value["segments"])
    legend = "green" if color else "in [[ ]]"
    return [*lines, f"--- what is trained on is {legend} ---", text, "---"]

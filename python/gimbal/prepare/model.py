"""Reads a model folder: its tokenizer, its special tokens and its resolved image processing."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.prepare.config import PrepareConfig

TEXT_FAMILIES = ("qwen2", "qwen3", "llama")
TOKENIZER_FILES = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "merges.txt", "special_tokens_map.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
)  # fmt: skip
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# Defaults of transformers' GotOcr2ImageProcessor; crop_to_patches is the InternVL processor's own default.
PROCESSOR_DEFAULTS: dict[str, Any] = {
    "size": {"height": 384, "width": 384},
    "resample": 3,
    "crop_to_patches": True,
    "min_patches": 1,
    "max_patches": 12,
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}


@dataclass
class Images:
    """Image tokens of an InternVL folder; a picture becomes start, rows * seq_length * context, end."""

    start_id: int
    context_id: int
    end_id: int
    context_token: str
    seq_length: int
    processor: dict[str, Any]


@dataclass
class Model:
    """What preparation needs of a model folder. `images` is None for text models."""

    folder: str
    type: str
    tokenizer: Any
    vocab_size: int
    eos_token_ids: list[int]
    pad_token_id: int
    end_markers: list[str] = field(default_factory=list)
    images: Images | None = None

    def manifest(self) -> dict[str, Any]:
        template = getattr(self.tokenizer, "chat_template", None)
        template = template if isinstance(template, str) else json.dumps(template, sort_keys=True) if template else ""
        return {
            "type": self.type,
            "folder": self.folder,
            "tokenizer_sha256": tokenizer_sha256(Path(self.folder)),
            "processor_sha256": processor_sha256(Path(self.folder)) if self.images else "",
            "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest() if template else "",
            "image_token_id": self.images.context_id if self.images else -1,
            "image_seq_length": self.images.seq_length if self.images else 0,
            "eos_token_ids": self.eos_token_ids,
            "pad_token_id": self.pad_token_id,
            "vocab_size": self.vocab_size,
        }


def _sha256(folder: Path, names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return digest.hexdigest()


def tokenizer_sha256(folder: Path) -> str:
    """SHA-256 over the tokenizer's files, as docs/dataset_format.md defines it."""
    return _sha256(folder, TOKENIZER_FILES)


def processor_sha256(folder: Path) -> str:
    """SHA-256 over the processor's files, as docs/dataset_format.md defines it."""
    return _sha256(folder, PROCESSOR_FILES)


def read_json(path: Path, *, required: bool) -> dict[str, Any]:
    """The object in a JSON file of a model folder; {} if it isn't there and needn't be."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise UserError(f"{path}: no such file; --model must name a Hugging Face model folder") from None
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return value


def load_tokenizer(folder: Path):
    """The folder's AutoTokenizer; UserError if it has none or one without a `tokenizers` backend."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(
            f"{folder}: the model folder has no tokenizer (tokenizer.json, tokenizer.model or vocab.json); "
            "copy the tokenizer files of the model into it"
        )
    # Chunks are spread over processes, so the tokenizers' own threads would only compete with them.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        # Any exception type can come out of a broken folder; all of them mean that it can't be used.
        raise UserError(f"{folder}: the tokenizer can't be loaded ({type(error).__name__}: {error})") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"{folder}: {type(tokenizer).__name__} has no fast backend; save a tokenizer.json with transformers")
    return tokenizer


def load_model(config: PrepareConfig) -> Model:
    """Reads the model folder of a configuration and checks that its parts fit together."""
    folder = Path(config.model).resolve()
    settings = read_json(folder / "config.json", required=True)
    family = settings.get("model_type")
    if family != "internvl" and family not in TEXT_FAMILIES:
        known = ", ".join(("internvl", *TEXT_FAMILIES))
        raise UserError(f"{folder / 'config.json'}: model_type '{family}' is not supported; known: {known}")
    tokenizer = load_tokenizer(folder)
    text = settings.get("text_config", settings) if family == "internvl" else settings
    vocab_size = text.get("vocab_size")
    if not isinstance(vocab_size, int):
        raise UserError(f"{folder / 'config.json'}: vocab_size is missing")
    if len(tokenizer) > vocab_size:
        raise UserError(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model's vocab_size is {vocab_size}")
    generation = read_json(folder / "generation_config.json", required=False)
    eos = _eos_ids(generation, text, tokenizer)
    if not eos:
        raise UserError(f"{folder}: no end token is known; set eos_token in tokenizer_config.json")
    pads = (tokenizer.pad_token_id, generation.get("pad_token_id"), text.get("pad_token_id"), eos[0])
    images = _images(folder, settings, tokenizer, config) if family == "internvl" else None
    markers = [tokenizer.convert_ids_to_tokens(index) for index in eos if index < len(tokenizer)]
    pad = next(index for index in pads if index is not None)
    return Model(str(folder), family, tokenizer, vocab_size, eos, pad, [m for m in markers if m], images)


def _eos_ids(generation: dict[str, Any], text: dict[str, Any], tokenizer) -> list[int]:
    ids: list[int] = []
    for value in (generation.get("eos_token_id"), text.get("eos_token_id"), tokenizer.eos_token_id):
        for index in value if isinstance(value, list) else [value]:
            if isinstance(index, int) and index not in ids:
                ids.append(index)
    return ids


def _images(folder: Path, settings: dict[str, Any], tokenizer, config: PrepareConfig) -> Images:
    tokens = {}
    for name in ("start_image_token", "context_image_token", "end_image_token"):
        token = getattr(tokenizer, name, None)
        if not isinstance(token, str):
            raise UserError(f"{folder / 'tokenizer_config.json'}: key '{name}' is missing; InternVL folders name their image tokens")
        tokens[name] = tokenizer.convert_tokens_to_ids(token)
    context = tokens["context_image_token"]
    if settings.get("image_token_id", context) != context:
        raise UserError(
            f"{folder / 'config.json'}: image_token_id {settings['image_token_id']} differs from the tokenizer's "
            f"'{tokenizer.context_image_token}' {context}"
        )
    processor = resolve_processor(folder, config)
    return Images(
        tokens["start_image_token"], context, tokens["end_image_token"], tokenizer.context_image_token,
        _seq_length(folder, settings, processor), processor,
    )  # fmt: skip


def _seq_length(folder: Path, settings: dict[str, Any], processor: dict[str, Any]) -> int:
    vision = settings.get("vision_config") or {}
    size, patch = (_pair(vision.get(key), key, folder) for key in ("image_size", "patch_size"))
    if size != (processor["height"], processor["width"]):
        raise UserError(
            f"{folder}: the image processor makes {processor['height']} x {processor['width']} pixels, "
            f"vision_config.image_size is {size[0]} x {size[1]}"
        )
    ratio = settings.get("downsample_ratio", 0.5)
    computed = int(size[0] // patch[0] * ratio) * int(size[1] // patch[1] * ratio)
    given = read_json(folder / "processor_config.json", required=False).get("image_seq_length")
    for where, value in (("processor_config.json", given), ("config.json", settings.get("image_seq_length"))):
        if value is not None and value != computed:
            raise UserError(
                f"{folder / where}: image_seq_length is {value}, but image_size, patch_size and downsample_ratio give {computed}"
            )
    return computed


def _pair(value: Any, key: str, folder: Path) -> tuple[int, int]:
    values = value if isinstance(value, list) else [value, value]
    if len(values) != 2 or not all(isinstance(v, int) and v > 0 for v in values):
        raise UserError(f"{folder / 'config.json'}: vision_config.{key} must be a size or two, not {value!r}")
    return values[0], values[1]


def resolve_processor(folder: Path, config: PrepareConfig) -> dict[str, Any]:
    """The manifest's `image_processor`: the folder's settings over the defaults, the command line's over both."""
    nested = read_json(folder / "processor_config.json", required=False).get("image_processor") or {}
    given = {**read_json(folder / "preprocessor_config.json", required=False), **nested}
    if not given:
        raise UserError(f"{folder}: no image processor (preprocessor_config.json, or image_processor in processor_config.json)")
    kind = str(given.get("image_processor_type", "GotOcr2ImageProcessor"))
    if kind.removesuffix("Fast").removesuffix("Pil") != "GotOcr2ImageProcessor":
        raise UserError(f"{folder}: image processor '{kind}' is not supported; InternVL folders use GotOcr2ImageProcessor")
    values = {key: given[key] if given.get(key) is not None else default for key, default in PROCESSOR_DEFAULTS.items()}
    # InternVLProcessor cuts pictures whatever the folder says (released folders say false); only the user's own word counts.
    values["crop_to_patches"] = PROCESSOR_DEFAULTS["crop_to_patches"]
    for option in ("crop_to_patches", "min_patches", "max_patches"):
        override = getattr(config, f"image_{option}")
        if override is not None:
            values[option] = override
    size = values.pop("size")
    size = {"height": size, "width": size} if isinstance(size, int) else size
    if not isinstance(size, dict) or set(size) != {"height", "width"}:
        raise UserError(f"{folder}: image processor size {size!r} must have height and width")
    if values["min_patches"] > values["max_patches"]:
        raise UserError(f"{folder}: min_patches {values['min_patches']} is above max_patches {values['max_patches']}")
    for key in ("image_mean", "image_std"):
        values[key] = [float(v) for v in (values[key] if isinstance(values[key], list) else [values[key]] * 3)]
    # The processor has no switch for the thumbnail: it always adds one to a picture that is cut.
    return {"type": "GotOcr2ImageProcessor", "height": size["height"], "width": size["width"], "use_thumbnail": True, **values}

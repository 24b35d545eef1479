"""Makes small model folders (configuration, tokenizer, chat template, image processor) without any weights.

The folders have the files and keys that `transformers` writes for released models, so that everything that
reads a folder (`gimbal prepare`, the C++ loaders, `transformers` itself) treats them like a real one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
IMAGE_START = "<img>"
IMAGE_END = "</img>"
IMAGE_CONTEXT = "<IMG_CONTEXT>"
VIDEO = "<video>"
TEXT_SPECIALS = (END_OF_TEXT, TURN_START, TURN_END)
IMAGE_SPECIALS = (IMAGE_START, IMAGE_END, IMAGE_CONTEXT, VIDEO)

# The split of text into words of the Qwen2 tokenizers. Qwen2Tokenizer sets it up from its class, not from the
# file, so the vocabulary has to be trained with the same one.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}\n"
    "{%- if message['content'] is string -%}\n"
    "{{- message['content'] -}}\n"
    "{%- else -%}\n"
    "{%- for part in message['content'] -%}\n"
    "{%- if part['type'] == 'image' -%}{{- '<IMG_CONTEXT>\\n' -}}\n"
    "{%- elif part['type'] == 'video' -%}{{- '<video>\\n' -}}\n"
    "{%- elif part['type'] == 'text' -%}{{- part['text'] -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- endif -%}\n"
    "{{- '<|im_end|>\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n"
)


@dataclass
class VisionSizes:
    """Sizes of the vision encoder; a picture gives `(image_size / patch_size * downsample_ratio)^2` tokens."""

    hidden_size: int = 96
    num_layers: int = 3
    num_heads: int = 4
    intermediate_size: int = 384
    image_size: int = 16
    patch_size: int = 4
    downsample_ratio: float = 0.5
    layer_scale_init_value: float = 1.0
    attention_bias: bool = True
    use_qk_norm: bool = False
    norm_type: str = "layer_norm"
    use_absolute_position_embeddings: bool = True
    initializer_range: float = 0.02

    @property
    def image_seq_length(self) -> int:
        side = self.image_size // self.patch_size * self.downsample_ratio
        if side != int(side) or self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size}, patch_size {self.patch_size} and downsample_ratio "
                f"{self.downsample_ratio} don't give a whole number of visual tokens"
            )
        return int(side) ** 2


@dataclass
class TextSizes:
    """Sizes of the text backbone."""

    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int | None = None
    intermediate_size: int = 384
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02


@dataclass
class ImageProcessing:
    """The image processor's settings; `size` is the vision encoder's image size."""

    crop_to_patches: bool = False
    min_patches: int = 1
    max_patches: int = 12
    resample: int = 3
    image_mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    image_std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])


def train_tokenizer(corpus: Iterable[str], *, vocab_size: int, specials: Iterable[str]):
    """Returns a byte-level BPE `tokenizers.Tokenizer`; special tokens have the first ids, in their order."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def text_config(family: str, sizes: TextSizes, *, vocab_size: int, eos_token_id: int, pad_token_id: int):
    """Returns the `transformers` configuration of a text backbone: family qwen2, qwen3 or llama."""
    from transformers import LlamaConfig, Qwen2Config, Qwen3Config

    classes = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}
    if family not in classes:
        raise ValueError(f"unknown text family '{family}': use one of {sorted(classes)}")
    rope = {"rope_type": "default", "rope_theta": sizes.rope_theta, **(sizes.rope_scaling or {})}
    settings: dict[str, Any] = dict(
        vocab_size=vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_key_value_heads,
        max_position_embeddings=sizes.max_position_embeddings,
        rms_norm_eps=sizes.rms_norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=sizes.tie_word_embeddings,
        initializer_range=sizes.initializer_range,
        bos_token_id=None,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
    )
    if family in ("qwen3", "llama"):
        settings["head_dim"] = sizes.head_dim or sizes.hidden_size // sizes.num_heads
    elif sizes.head_dim not in (None, sizes.hidden_size // sizes.num_heads):
        raise ValueError("qwen2 has no head_dim of its own: leave it out or use qwen3 or llama")
    return classes[family](**settings)


def make_model_folder(
    out: str | Path,
    *,
    family: str = "internvl",
    corpus: Iterable[str],
    text_family: str = "qwen2",
    vocab_size: int = 512,
    vision: VisionSizes | None = None,
    text: TextSizes | None = None,
    image: ImageProcessing | None = None,
    chat_template: str | None = CHAT_TEMPLATE,
    dtype: str = "float32",
    sizes: dict[str, Any] | None = None,
) -> Path:
    """Writes a model folder without weights to `out` and returns its path.

    `family` is internvl (its text backbone is `text_family`), qwen2, qwen3 or llama. `corpus` trains the
    tokenizer; `vocab_size` is an upper limit and counts the special tokens (at least 263), and the model's vocabulary is
    what the tokenizer really has. `sizes` sets single fields by name in dotted form, for instance
    `{"vision.patch_size": 2, "text.tie_word_embeddings": False, "image.crop_to_patches": True}`.
    """
    from transformers import InternVLConfig, InternVLVisionConfig

    vision, text, image = vision or VisionSizes(), text or TextSizes(), image or ImageProcessing()
    for name, value in (sizes or {}).items():
        part, _, key = name.partition(".")
        target = {"vision": vision, "text": text, "image": image}.get(part)
        if target is None or not hasattr(target, key):
            raise ValueError(f"unknown size '{name}'")
        setattr(target, key, value)
    if family not in ("internvl", "qwen2", "qwen3", "llama"):
        raise ValueError(f"unknown family '{family}': use internvl, qwen2, qwen3 or llama")

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with_images = family == "internvl"
    specials = TEXT_SPECIALS + (IMAGE_SPECIALS if with_images else ())
    tokenizer = train_tokenizer(corpus, vocab_size=vocab_size, specials=specials)
    tokenizer.save(str(out / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in specials}
    backbone = text_config(
        text_family if with_images else family,
        text,
        vocab_size=tokenizer.get_vocab_size(),
        eos_token_id=ids[TURN_END],
        pad_token_id=ids[END_OF_TEXT],
    )
    if with_images:
        config = InternVLConfig(
            vision_config=InternVLVisionConfig(
                hidden_size=vision.hidden_size,
                num_hidden_layers=vision.num_layers,
                num_attention_heads=vision.num_heads,
                intermediate_size=vision.intermediate_size,
                image_size=vision.image_size,
                patch_size=vision.patch_size,
                layer_scale_init_value=vision.layer_scale_init_value,
                attention_bias=vision.attention_bias,
                use_qk_norm=vision.use_qk_norm,
                norm_type=vision.norm_type,
                use_absolute_position_embeddings=vision.use_absolute_position_embeddings,
                initializer_range=vision.initializer_range,
            ),
            text_config=backbone,
            image_token_id=ids[IMAGE_CONTEXT],
            image_seq_length=vision.image_seq_length,
            downsample_ratio=vision.downsample_ratio,
            tie_word_embeddings=text.tie_word_embeddings,
        )
        config.architectures = ["InternVLForConditionalGeneration"]
        _write_processor(out, vision, image)
    else:
        config = backbone
        config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
    config.dtype = dtype
    config.save_pretrained(out)
    _write_tokenizer_config(out, family if not with_images else text_family, ids, with_images, text)
    if chat_template is not None:
        (out / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    eos = [ids[TURN_END], ids[END_OF_TEXT]]
    _write_json(out / "generation_config.json", {"eos_token_id": eos, "pad_token_id": ids[END_OF_TEXT]})
    return out


def _write_tokenizer_config(
    out: Path, text_family: str, ids: dict[str, int], with_images: bool, text: TextSizes
) -> None:
    # Llama 3 folders name the generic class; the Qwen classes build their pre-tokenizer themselves.
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast" if text_family == "llama" else "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "model_max_length": text.max_position_embeddings,
        "split_special_tokens": False,
        "added_tokens_decoder": {
            str(index): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                         "single_word": False, "special": True}
            for token, index in ids.items()
        },
    }
    if with_images:
        names = {"start_image_token": IMAGE_START, "end_image_token": IMAGE_END,
                 "context_image_token": IMAGE_CONTEXT, "video_token": VIDEO}
        config |= {**names, "extra_special_tokens": names, "processor_class": "InternVLProcessor"}
    _write_json(out / "tokenizer_config.json", config)


def _write_processor(out: Path, vision: VisionSizes, image: ImageProcessing) -> None:
    settings = {
        "image_processor_type": "GotOcr2ImageProcessor",
        "processor_class": "InternVLProcessor",
        "crop_to_patches": image.crop_to_patches,
        "min_patches": image.min_patches,
        # InternVLProcessor of `transformers` cuts pictures whatever the folder says about it, unless the limit is 1.
        "max_patches": image.max_patches if image.crop_to_patches else 1,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": image.image_mean,
        "image_std": image.image_std,
        "resample": image.resample,
        "rescale_factor": 1 / 255,
        "size": {"height": vision.image_size, "width": vision.image_size},
    }
    _write_json(out / "preprocessor_config.json", settings)
    _write_json(
        out / "processor_config.json",
        {"image_seq_length": vision.image_seq_length, "processor_class": "InternVLProcessor"},
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")

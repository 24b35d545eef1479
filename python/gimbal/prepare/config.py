"""What `gimbal prepare` is asked to do, from the command line or from a JSON file with the recipe's keys."""

from __future__ import annotations

import difflib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gimbal import UserError

SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass
class Source:
    """One named set of files. `media_root` None: pictures are looked up beside the file that names them."""

    name: str
    files: list[str] = field(default_factory=list)
    weight: float = 1.0
    media_root: str | None = None


@dataclass
class PrepareConfig:
    """`workers` 0: one per core. `max_tokens` 0: no limit. The image_* values override the model folder's."""

    model: str
    sources: list[Source]
    out: str
    workers: int = 0
    max_tokens: int = 0
    strict: bool = False
    overwrite: bool = False
    image_crop_to_patches: bool | None = None
    image_min_patches: int | None = None
    image_max_patches: int | None = None
    # (source, file) numbers in the order in which the files are read; None: source after source.
    order: list[tuple[int, int]] | None = None

    @property
    def inputs(self) -> list[tuple[int, int]]:
        if self.order is not None:
            return self.order
        return [(s, f) for s, source in enumerate(self.sources) for f in range(len(source.files))]

    def media_folder(self, source: int, file: int) -> str:
        """The folder that relative picture paths of one file start from."""
        given = self.sources[source].media_root
        return os.path.realpath(given or os.path.dirname(self.sources[source].files[file]) or ".")

    @property
    def num_workers(self) -> int:
        return self.workers or os.cpu_count() or 1


_KEYS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "sources": (list,),
    "out": (str,),
    "workers": (int,),
    "max_tokens": (int,),
    "strict": (bool,),
    "overwrite": (bool,),
    "image_crop_to_patches": (bool, type(None)),
    "image_min_patches": (int, type(None)),
    "image_max_patches": (int, type(None)),
}
_SOURCE_KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "files": (list,),
    "weight": (float, int),
    "media_root": (str, type(None)),
}


def config_from_json(path: str) -> PrepareConfig:
    """Reads the `prepare` section of a resolved recipe (`--config`)."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    problems = _problems(value, _KEYS, ("model", "sources", "out"), "")
    if isinstance(value, dict) and isinstance(value.get("sources"), list):
        for number, source in enumerate(value["sources"]):
            problems += _problems(source, _SOURCE_KEYS, ("files",), f"sources[{number}].")
    if problems:
        raise UserError(f"{path}: " + "; ".join(problems))
    sources = [
        Source(
            name=source.get("name") or (Path(str(source["files"][0])).stem if source["files"] else ""),
            files=[str(file) for file in source["files"]],
            weight=float(source.get("weight", 1.0)),
            media_root=source.get("media_root") or None,
        )
        for source in value.pop("sources")
    ]
    return PrepareConfig(sources=sources, **value)


def _problems(value: Any, keys: dict[str, tuple[type, ...]], required: tuple[str, ...], prefix: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{prefix.rstrip('.') or 'the file'} must be an object"]
    problems = [f"missing key '{prefix}{key}'" for key in required if key not in value]
    for key, item in value.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f", did you mean '{prefix}{near[0]}'?" if near else f", known keys: {', '.join(keys)}"
            problems.append(f"unknown key '{prefix}{key}'{hint}")
        elif not isinstance(item, keys[key]) or (isinstance(item, bool) and bool not in keys[key]):
            expected = " or ".join(t.__name__ for t in keys[key] if t is not type(None))
            problems.append(f"'{prefix}{key}' must be {expected}, not {item!r}")
    return problems


def sources_from_arguments(
    data: list[str], weights: list[str], media_root: str | None
) -> tuple[list[Source], list[tuple[int, int]]]:
    """Turns `--data [name=]file ...` and `--source name=weight ...` into sources and the reading order."""
    sources: dict[str, Source] = {}
    unnamed: dict[str, str] = {}
    order: list[tuple[int, int]] = []
    for item in data:
        name, equals, file = item.partition("=")
        # A path may hold "="; a file that exists as written is meant as a file.
        if not equals or os.path.exists(item):
            file, name = item, Path(item).stem
            if name in sources:
                other = unnamed.get(name, sources[name].files[0])
                raise UserError(
                    f"--data {item}: its source would be named '{name}' like that of {other}; write name={item}"
                )
            unnamed[name] = file
        elif not name or not file:
            raise UserError(f"--data {item}: expected FILE or NAME=FILE")
        elif name in unnamed:
            raise UserError(f"--data {item}: a source '{name}' exists already ({unnamed[name]}); take another name")
        source = sources.setdefault(name, Source(name, media_root=media_root))
        order.append((list(sources).index(name), len(source.files)))
        source.files.append(file)
    for item in weights:
        name, equals, text = item.partition("=")
        if not equals or name not in sources:
            raise UserError(f"--source {item}: expected NAME=WEIGHT with NAME one of {', '.join(sources)}")
        try:
            sources[name].weight = float(text)
        except ValueError:
            raise UserError(f"--source {item}: '{text}' is not a number") from None
    return list(sources.values()), order


def validate(config: PrepareConfig) -> None:
    """Raises one UserError that lists all problems of a configuration."""
    problems: list[str] = []
    if not config.out:
        problems.append("out: no dataset folder is named")
    if not Path(config.model).is_dir():
        problems.append(f"model: '{config.model}' is not a folder")
    if not config.sources:
        problems.append("data: no files are named")
    names = [source.name for source in config.sources]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"source '{name}': the name is used twice")
    for source in config.sources:
        problems += _source_problems(source)
    for key in ("workers", "max_tokens"):
        if getattr(config, key) < 0:
            problems.append(f"{key}: {getattr(config, key)} must not be negative")
    low, high = config.image_min_patches, config.image_max_patches
    for key, value in (("image_min_patches", low), ("image_max_patches", high)):
        if value is not None and value < 1:
            problems.append(f"{key}: {value} must be at least 1")
    if low is not None and high is not None and low > high:
        problems.append(f"image_min_patches {low} is above image_max_patches {high}")
    if problems:
        raise UserError("; ".join(problems))


def _source_problems(source: Source) -> list[str]:
    problems = []
    if not source.files:
        problems.append(f"source '{source.name}': no files")
    if not (math.isfinite(source.weight) and source.weight >= 0):
        problems.append(f"source '{source.name}': weight {source.weight} must be a number of at least 0")
    if source.media_root and not Path(source.media_root).is_dir():
        problems.append(f"source '{source.name}': media root '{source.media_root}' is not a folder")
    for file in source.files:
        if not Path(file).is_file():
            problems.append(f"source '{source.name}': no file '{file}'")
        elif not file.endswith(SUFFIXES):
            problems.append(f"source '{source.name}': '{file}' must end in {', '.join(SUFFIXES)}")
    return problems

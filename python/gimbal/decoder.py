"""Token ids to text with the tokenizer of a model folder, without `transformers`, which takes seconds to import."""

from __future__ import annotations

from pathlib import Path

from gimbal import UserError


class TokenDecoder:
    """`special` holds the ids of special tokens; `decode` leaves them out."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{folder}: no tokenizer.json, so that token ids can't be shown as text")
        self._tokenizer = Tokenizer.from_file(str(path))
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = {number for number, token in added.items() if token.special}

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

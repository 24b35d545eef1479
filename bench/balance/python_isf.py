"""Iterative sampling and filtering (OmniBal, arXiv 2407.20761, Algorithm 1) in plain Python: the timing peer.

Lists, integers and one loop over the samples of a round; no numpy, and nothing that would slow it down. It packs as
`gimbal balance --method isf` does, with other random numbers.

    python bench/balance/python_isf.py bench/balance/lengths/*.csv --cap-vision 16 --cap-tokens 5376
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Sequence

TOKEN_MARGIN = 128  # a pack is accepted from this far below the token cap


def isf(
    vision: Sequence[int], tokens: Sequence[int], cap_vision: int, cap_tokens: int, rounds: int = 50, seed: int = 0
) -> list[list[int]]:
    """Packs of sample numbers, each sample in exactly one.

    A round shuffles the samples that are left and fills one pack after the other; a sample that does not fit closes
    the pack and opens the next. Packs that reach a threshold (the vision cap, or the token cap less 128) are kept, the
    samples of the others go on to the next round. After the last round every pack is kept.
    """
    for sample, (v, t) in enumerate(zip(vision, tokens, strict=True)):
        if v > cap_vision or t > cap_tokens:
            raise ValueError(f"sample {sample} ({v} vision, {t} tokens) exceeds a cap ({cap_vision}, {cap_tokens})")
    accept_tokens = cap_tokens - TOKEN_MARGIN if cap_tokens >= 1024 else cap_tokens
    rng = random.Random(seed)
    packs: list[list[int]] = []
    pool = list(range(len(vision)))
    for last in [False] * rounds + [True]:
        if not pool:
            break
        if not last:
            rng.shuffle(pool)
        rest: list[int] = []
        pack: list[int] = []
        sum_vision = sum_tokens = 0
        for sample in pool:
            v, t = vision[sample], tokens[sample]
            if sum_vision + v > cap_vision or sum_tokens + t > cap_tokens:
                if last or sum_vision >= cap_vision or sum_tokens >= accept_tokens:
                    packs.append(pack)
                else:
                    rest += pack
                pack = []
                sum_vision = sum_tokens = 0
            pack.append(sample)
            sum_vision += v
            sum_tokens += t
        if last or sum_vision >= cap_vision or sum_tokens >= accept_tokens:
            packs.append(pack)
        else:
            rest += pack
        pool = rest
    return packs


def read_lengths(files: Sequence[str]) -> tuple[list[int], list[int]]:
    """The columns `vision` and `tokens` of the files, one after another."""
    vision: list[int] = []
    tokens: list[int] = []
    for file in files:
        with open(file, newline="") as lines:
            for row in csv.DictReader(lines):
                vision.append(int(row["vision"]))
                tokens.append(int(row["tokens"]))
    return vision, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="CSV files with the columns vision and tokens")
    parser.add_argument("--cap-vision", type=int, required=True)
    parser.add_argument("--cap-tokens", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=1, help="use the data so many times over")
    args = parser.parse_args()
    vision, tokens = read_lengths(args.files)
    vision, tokens = vision * args.repeat, tokens * args.repeat
    start = time.perf_counter()
    packs = isf(vision, tokens, args.cap_vision, args.cap_tokens, args.rounds, args.seed)
    seconds = time.perf_counter() - start
    packed = sum(map(len, packs))
    if packed != len(vision):
        raise SystemExit(f"{packed} samples packed of {len(vision)}")
    print(f"samples {len(vision)} packs {len(packs)} seconds {seconds:.3f}")


if __name__ == "__main__":
    main()

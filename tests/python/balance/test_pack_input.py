"""What gimbal.balance says to input that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from balance_cases import STREAMS

from gimbal import UserError, balance

SIZES = np.array([[1, 100], [5, 900], [3, 400]], np.uint32)
CAPS = {"vision": 9, "tokens": 1000}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (SIZES.astype(np.float64), "float64.*astype\\(np.uint32\\)"),
        (SIZES > 2, "bool.*whole numbers"),
        (np.array([["a", "b"]]), "whole numbers"),
        (np.where(SIZES == 400, -1, SIZES.astype(np.int32)).astype(np.int32), "sample 2, tokens, is -1"),
        (np.where(SIZES == 900, 2**32, SIZES.astype(np.int64)), "sample 1, tokens, is 4294967296"),
        (SIZES[None], "3 dimensions"),
        (np.zeros((4, 9), np.uint32), "9 streams"),
        (np.zeros((4, 0), np.uint32), "0 streams"),
    ],
)
def test_sizes(sizes, message: str) -> None:
    names = STREAMS if sizes.ndim == 2 and sizes.shape[1] == 2 else None
    with pytest.raises(UserError, match=message):
        balance.pack(sizes, CAPS, names=names)


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ({"vision": 9, "token": 1000}, "no stream is called 'token'; did you mean 'tokens'"),
        ({"vision": 9}, "stream 'tokens' is missing"),
        ({"vision": 9, "tokens": -1}, "the cap of tokens is -1"),
        ({"vision": 9, "tokens": 2**63 + 1}, "from 0 to"),
        ({"vision": 9, "tokens": 1.5}, "whole number"),
        ({"vision": 9, "tokens": True}, "whole number"),
        ({"vision": 9, "tokens": "auto"}, "whole number"),
        ([9], "1 entries for the 2 streams"),
        (9, "one entry per stream"),
        ({"vision": None, "tokens": None}, "no cap is set"),
        ({"vision": 4, "tokens": 1000}, "sample 1.*5"),
    ],
)
def test_caps(caps, message: str) -> None:
    with pytest.raises(UserError, match=message):
        balance.pack(SIZES, caps, names=STREAMS)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"names": ["a"]}, "1 entries for 2 streams"),
        ({"names": ["a", "a"]}, "twice"),
        ({"names": None}, "give names="),
        ({"costs": {"vision": float("nan"), "tokens": 1}}, "cost of vision is nan"),
        ({"costs": {"vision": "x", "tokens": 1}}, "give a number"),
        ({"costs": {"vision": (1, 2, 3), "tokens": 1}}, "per_row, per_pair"),
        ({"costs": [1]}, "1 entries"),
        ({"cost_cap": -1}, "cost_cap"),
        ({"pairs": SIZES[:2]}, "pairs has shape"),
        ({"pairs": SIZES.astype(np.float32)}, "pairs has dtype float32"),
        ({"method": "best"}, "use one of gimbal, isf"),
        ({"method": "random"}, "samples_per_pack"),
        ({"method": "length", "samples_per_pack": 2, "length_stream": "audio"}, "no stream is called 'audio'"),
        ({"oversize": "drop"}, "use one of error, reject, alone"),
        ({"ranks": 0}, "ranks is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"epoch": 0.5}, "epoch is 0.5"),
        ({"isf_rounds": 0}, "isf_rounds"),
        ({"sources": [0, 1]}, "each of the 3 samples"),
        ({"sources": [0, 1, 99]}, "number the sources"),
        ({"sources": [0.5, 1, 2]}, "sources has dtype float64"),
        ({"sources": ["a", "b", "a"], "source_weights": {"c": 1}}, "no source is called 'c'"),
        ({"sources": ["a", "b", "a"], "source_weights": [1]}, "1 entries for 2 sources"),
        ({"sources": ["a", "b", "a"], "source_weights": 2}, "one entry per source"),
        ({"sources": [0, [1], 2]}, "sources is no array"),
        ({"pairs": [[1, 2], [3]]}, "pairs is no array"),
        ({"sources": ["a", "b", "a"], "source_weights": {"a": -1}}, "weight of a is -1"),
        ({"patterns": "/no/such/file"}, "/no/such/file"),
    ],
)
def test_options(keywords, message: str) -> None:
    with pytest.raises(UserError, match=message):
        balance.pack(SIZES, CAPS, **({"names": STREAMS} | keywords))


def test_user_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="kind='exact'"):
        balance.lower_bound(SIZES, CAPS, "exact", names=STREAMS)


def test_empty_and_extreme_input() -> None:
    empty = balance.pack(np.zeros((0, 2), np.uint32), CAPS, names=STREAMS, ranks=4)
    assert len(empty) == 0 and empty.steps == 0 and list(empty) == [] and empty.report["packs"] == 0
    most = np.full((5, 1), 2**32 - 1, np.uint32)
    assert len(balance.pack(most, [2**32 - 1])) == 5
    assert len(balance.pack(most, [2**63])) == 1
    nothing = balance.pack(np.zeros((7, 2), np.uint32), [1, 1])
    assert sorted(nothing.samples.tolist()) == list(range(7))

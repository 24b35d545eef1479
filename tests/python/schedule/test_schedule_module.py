"""gimbal.schedule: what it gives and what it refuses."""

from __future__ import annotations

import pytest
from gimbal import UserError, schedule


def test_a_schedule_has_its_sizes_and_actions() -> None:
    made = schedule.make("zb-h1", ranks=2, micro_batches=2)
    assert (made.name, made.num_ranks, made.num_stages, made.num_micro_batches) == ("zb-h1", 2, 2, 2)
    assert made.ranks == (("0F0", "0F1", "0I0", "0W0", "0I1", "0W1"), ("1F0", "1I0", "1F1", "1I1", "1W0", "1W1"))
    assert made.check() == schedule.ScheduleCheck((), (2, 2))


@pytest.mark.parametrize("shape", [("gpipe", 3, 4, 1), ("1f1b", 3, 4, 1), ("interleaved", 3, 6, 2), ("zb-h1", 3, 4, 1)])
def test_text_is_read_back(shape: tuple[str, int, int, int]) -> None:
    made = schedule.make(*shape)
    assert schedule.parse(made.text) == made


def test_an_unsound_schedule_is_kept_and_its_problems_are_told() -> None:
    text = "mine ranks=2 stages=2 micro_batches=1\n-\n1F0 1B0\n"
    read = schedule.parse(text)
    assert read.text == text
    check = read.check()
    assert check.in_flight == ()
    assert check.problems == ("0F0 is missing", "0B0 is missing (or 0I0 and 0W0)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pipedream", 2, 2), "gpipe, 1f1b, interleaved, zb-h1"),
        (("1f1b", 0, 2), "found 0 ranks"),
        (("1f1b", 2, 2**31), "micro_batches is 2147483648"),
        (("gpipe", 2, 2, 2), "only interleaved has more"),
        (("interleaved", 4, 9, 2), "take 8 or 10 micro-batches"),
        (("gpipe", 2**20, 2**20), "more than 4194304"),
    ],
)
def test_wrong_shapes_are_refused(words: tuple[str, int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        schedule.make(*words)


def test_wrong_text_is_refused_with_its_place() -> None:
    with pytest.raises(UserError, match=r"a\.txt:2: found '0X0'"):
        schedule.parse("x ranks=1 stages=1 micro_batches=1\n0X0", "a.txt")

"""`python -m gimbal demo digits|vqa`."""

from __future__ import annotations

import importlib

from gimbal import UserError

DEMOS = ("digits", "vqa")


def main(arguments: list[str]) -> int:
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print(f"usage: python -m gimbal demo {{{','.join(DEMOS)}}} [--nproc N] [KEY=VALUE ...]")
        return 0
    if arguments[0] not in DEMOS:
        raise UserError(f"no demo '{arguments[0]}'; there are {', '.join(DEMOS)}")
    return importlib.import_module(f"gimbal.demo.{arguments[0]}").main(arguments[1:])

"""`gimbal report RUN`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from pathlib import Path

from gimbal import UserError
from gimbal.report.runs import read_run

EXAMPLES = """examples:
  gimbal report runs/digits                         writes runs/digits/report.html
  gimbal report runs/digits --out digits.html --open
  gimbal report runs/digits --tensorboard tb        event files for `tensorboard --logdir tb`
"""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="gimbal report",
        description="Writes one self-contained HTML page of a run: curves, speed, balance, time, held-out answers. "
        "A run that is still going or was killed is shown as far as it got.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("run", metavar="RUN", help="run folder (train.run of the recipe)")
    result.add_argument("--out", metavar="FILE", help="the page (default: RUN/report.html)")
    result.add_argument("--open", action="store_true", help="show the page in the browser")
    result.add_argument("--samples", type=int, default=60, metavar="N", help="most answers to show (default: 60)")
    result.add_argument("--tensorboard", metavar="DIR", help="write TensorBoard event files to DIR, and no page")
    result.add_argument("--follow", action="store_true", help="with --tensorboard: go on until the run is finished")
    result.add_argument("--json", action="store_true", help="print the result as JSON")
    return result


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    if args.samples < 0:
        raise UserError(f"--samples {args.samples}: must not be negative")
    if args.tensorboard is None:
        if args.follow:
            raise UserError("--follow: only with --tensorboard DIR")
        return _page(args)
    if args.out or args.open:
        raise UserError("--tensorboard writes no page: leave --out and --open away, or run the command twice")
    return _tensorboard(args)


def _page(args: argparse.Namespace) -> int:
    from gimbal.report.page import render

    run = read_run(args.run)
    out = Path(args.out) if args.out else run.folder / "report.html"
    page = render(run, most_samples=args.samples)
    # A reader never sees half a page.
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{out}: can't be written ({error.strerror}); choose another file with --out") from error
    for stage in run.stages:
        for note in stage.notes:
            print(f"note: {stage.name}: {note}", file=sys.stderr)
    result = {"report": str(out), "bytes": out.stat().st_size, "finished": run.finished}
    print(json.dumps(result) if args.json else out)
    if args.open and not webbrowser.open(out.resolve().as_uri()):
        print(f"note: no browser could be started; open {out} by hand", file=sys.stderr)
    return 0


def _tensorboard(args: argparse.Namespace) -> int:
    from gimbal.report.tensorboard import export, follow

    try:
        if args.follow:
            points = follow(args.run, args.tensorboard)
        else:
            points = export(read_run(args.run), args.tensorboard)
    except OSError as error:
        raise UserError(f"{args.tensorboard}: can't be written ({error.strerror})") from error
    result = {"tensorboard": args.tensorboard, "points": points}
    print(json.dumps(result) if args.json else f"{points:,} points in {args.tensorboard}")
    return 0

"""`python -m gimbal COMMAND ...`: runs `gimbal.COMMAND.main.main(arguments)` and turns its errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import sys

from gimbal import UserError

# Commands are packages of this one with a `main` module; each is imported only when it is asked for.
COMMANDS = {
    "prepare": "turn conversations and pictures into a dataset folder",
    "inspect": "show what a dataset folder holds",
    "report": "write a run folder's HTML report",
    "generate": "answer a prompt with a trained model",
    "demo": "make the demo's data and check its results",
}


def usage() -> str:
    lines = ["usage: python -m gimbal COMMAND ...", "", "commands:"]
    lines += [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(lines)


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code: 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name = arguments[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; use one of {', '.join(COMMANDS)}"
        print(f"error: unknown command '{name}'{hint}", file=sys.stderr)
        return 2
    try:
        main = importlib.import_module(f"gimbal.{name}.main").main
        return int(main(arguments[1:]) or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output left (`gimbal inspect ... | head`); nothing is wrong.
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

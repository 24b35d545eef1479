"""`python -m gimbal.generate ...`, the same as `python -m gimbal generate ...`."""

import sys

from gimbal.__main__ import run

sys.exit(run(["generate", *sys.argv[1:]]))

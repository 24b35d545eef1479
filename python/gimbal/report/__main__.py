"""`python -m gimbal.report RUN ...`, the same as `python -m gimbal report RUN ...`."""

import sys

from gimbal.__main__ import run

sys.exit(run(["report", *sys.argv[1:]]))

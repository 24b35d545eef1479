"""For all tests: Ctrl-C means what it means to a program that a user starts."""

from __future__ import annotations

import signal

# A shell has its background jobs ignore it, and programs leave it ignored.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""What gimbal.balance raises besides gimbal.UserError."""

from __future__ import annotations


class Stopped(RuntimeError):
    """The progress function returned False."""

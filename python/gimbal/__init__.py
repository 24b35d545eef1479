"""Gimbal's Python side: balanced batches, dataset preparation, inspection and reports."""

__version__ = "0.1.0"


class UserError(ValueError):
    """An input that the user can fix. The message names the file, key or sample and says what to do."""

"""`gimbal prepare`: conversations and pictures in, a dataset folder (docs/dataset_format.md) out."""

from gimbal.prepare.config import PrepareConfig, Source

__all__ = ["PrepareConfig", "Source", "prepare"]


def prepare(config: PrepareConfig):
    """Builds the dataset folder `config.out`; returns its manifest. Raises UserError for bad input."""
    from gimbal.prepare.build import build_dataset

    return build_dataset(config)

"""`gimbal generate`: the prompt becomes a one-sample dataset, gimbal-run writes token ids, this side shows text."""

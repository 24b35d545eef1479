"""`gimbal report`: one self-contained HTML page of a run folder, and its scalars for TensorBoard."""

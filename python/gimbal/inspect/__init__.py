"""`gimbal inspect`: counts, length histograms, rejections and decoded samples of a dataset folder."""

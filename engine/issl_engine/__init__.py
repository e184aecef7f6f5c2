"""Self-supervised pretraining and probing of image encoders (ISSL: CISSL, DISSL and their baselines)."""

__version__ = "0.2.0"

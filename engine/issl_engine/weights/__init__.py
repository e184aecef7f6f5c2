"""Weights in and out: opens the encoders of checkpoints and of other projects, and exports them."""

"""An analytical model of pretraining on many GPUs, and its check against CPU ranks."""

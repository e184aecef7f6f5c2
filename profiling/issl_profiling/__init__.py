"""Measures kernels, loaders, training and what it costs; predicts a recipe on many GPUs; tunes one to a machine."""

"""Measures of representations: each is a pure function of features, in fp64. ``diagnosis`` applies them to encoders."""

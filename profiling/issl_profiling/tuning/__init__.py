"""Finds the settings with which this machine trains a recipe fastest, without changing what is trained."""

"""Recipes: from a YAML file to checked, typed settings, and back."""

"""The same search for every arm of a recipe: equally many trials, judged on held-out training images alone."""

"""How far the loader's augmentations are from torchvision's: pixels, and the distributions of random numbers."""

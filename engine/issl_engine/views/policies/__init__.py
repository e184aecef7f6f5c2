"""Augmentation policies: a few operations per image, drawn at random from a list. One policy per file.

The operations and their ranges are those of the papers, as torchvision has them. Where DALI's pixels differ from
torchvision's: geometry is bilinear (there the nearest pixel by default), sharpness mirrors the crop's edge (there
the outermost pixels stay), equalise takes OpenCV's formula (there Pillow's).
"""

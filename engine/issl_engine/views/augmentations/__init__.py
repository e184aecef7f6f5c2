"""What happens to a crop, one augmentation per file: its keys in a recipe, its draws, the named arrays that the DALI
graph takes, and its line on a contact sheet.

The function of the same name in ``loading/augmentations`` does it with DALI. ``views/config.py`` has the order
(``Augmentation.in_order``).
"""

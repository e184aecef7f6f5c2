"""Which files of an image set are not what they were when the source was scanned."""

import os

from issl_engine.sources.base import ImageSet
from issl_engine.sources.formats.image_sizes import read_size


def changed_files(images: ImageSet, indices: list[int]) -> list[str]:
    """Each such file and how it changed: gone, an image of another size, a larger file written again."""
    if images.ranges is not None:
        found = (images.ranges.changed(index) for index in indices)
        return list(dict.fromkeys(one for one in found if one is not None))
    if images.paths is None:
        return []
    changed = []
    for index in indices:
        path, expected = images.paths[index], tuple(images.sizes_HW[index].tolist())
        try:
            size = read_size(path, os.path.getsize(path))
        except FileNotFoundError:
            changed.append(f"{path} (the file is gone)")
            continue
        if not isinstance(size, str) and size != expected:
            changed.append(f"{path} ({size[1]} x {size[0]} px instead of {expected[1]} x {expected[0]})")
    return changed

"""The last step of every view: whole grey levels become floats about zero."""

from typing import Any

from nvidia.dali import fn, types

Triple = tuple[float, float, float]


def normalise(
    view: Any, mean: Triple, std: Triple, channels: int, layout: str = "CHW", *, mirror: Any = None,
    crop: tuple[int, int] | None = None, crop_pos_y: Any = None, crop_pos_x: Any = None,
) -> Any:  # fmt: skip
    """Float, three channels in ``layout`` (CHW or HWC), pixels as 0 to 1 less ``mean``, over ``std``.

    ``mirror`` (1 or 0 per image) mirrors left and right; ``crop`` (height, width) cuts first, ``crop_pos_y`` and
    ``crop_pos_x`` being shares of the room that there is.
    """
    scaled_mean, scaled_std = [255 * m for m in mean], [255 * s for s in std]

    def planes(mean: list[float], std: list[float]) -> Any:
        return fn.crop_mirror_normalize(
            view, mean=mean, std=std, dtype=types.DALIDataType.FLOAT, output_layout=layout, mirror=mirror, crop=crop,
            crop_pos_y=crop_pos_y, crop_pos_x=crop_pos_x,
        )  # fmt: skip

    if channels == 3:
        return planes(scaled_mean, scaled_std)
    pairs = list(zip(scaled_mean, scaled_std))
    of_pair = {(m, s): planes([m], [s]) for m, s in dict.fromkeys(pairs)}
    return fn.cat(*(of_pair[pair] for pair in pairs), axis=layout.index("C"))

"""One view of an image as DALI operators: crop, resize, rotation, policy, colours, blur, noise, normalisation."""

from collections.abc import Iterator
from typing import Any

from nvidia.dali import fn, types

from issl_engine.data.dali.further import add_noise_and_operators, turn_and_distort
from issl_engine.data.operator_arguments import blurs, changes_colour, solarises
from issl_engine.data.views import CropGroup, ViewsConfig

INTERPOLATION = {"bilinear": types.DALIInterpType.INTERP_LINEAR, "bicubic": types.DALIInterpType.INTERP_CUBIC}
MID_GREY = 128.0


def augmented_view(
    decoded: Any,
    inputs: Iterator[Any],
    further_inputs: Iterator[Any],
    group: CropGroup,
    views: ViewsConfig,
    channels: int,
    on_gpu: bool,
) -> Any:
    """One view [3, size, size], float, normalised. Takes its arguments off ``inputs`` and ``further_inputs``."""
    size, augmentation = group.size, views.augmentation_of(group)
    start, end, flip = next(inputs), next(inputs), next(inputs)
    view: Any = fn.resize(
        decoded, roi_start=start, roi_end=end, size=[size, size], antialias=True,
        interp_type=INTERPOLATION[views.interpolation],
    )  # fmt: skip
    view = turn_and_distort(view, further_inputs, augmentation, channels, on_gpu)
    if changes_colour(augmentation, channels):
        factors = {"contrast": next(inputs), "brightness": next(inputs)}
        if channels == 3:
            view = fn.color_twist(view, hue=next(inputs), saturation=next(inputs), **factors)
        else:
            view = fn.brightness_contrast(view, contrast_center=MID_GREY, **factors)
    if blurs(augmentation):
        view = fn.gaussian_blur(view, sigma=next(inputs), window_size=next(inputs))
    if solarises(augmentation):
        # 255 - x is x with all bits turned, which costs a third of choosing between the two.
        view = view ^ ((view >= next(inputs)) * types.Constant(255, dtype=types.DALIDataType.UINT8))
    view = add_noise_and_operators(view, further_inputs, augmentation, on_gpu)
    return normalise(view, *views.normalisation_of(group), channels, mirror=flip)


def normalise(
    view: Any,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    channels: int,
    **settings: Any,
) -> Any:
    scaled_mean, scaled_std = [255 * m for m in mean], [255 * s for s in std]
    if channels == 3:
        return fn.crop_mirror_normalize(
            view,
            mean=scaled_mean,
            std=scaled_std,
            dtype=types.DALIDataType.FLOAT,
            output_layout="CHW",
            **settings,
        )
    planes = {
        (m, s): fn.crop_mirror_normalize(
            view, mean=[m], std=[s], dtype=types.DALIDataType.FLOAT, output_layout="CHW", **settings
        )
        for m, s in dict.fromkeys(zip(scaled_mean, scaled_std))
    }
    return fn.cat(*(planes[pair] for pair in zip(scaled_mean, scaled_std)), axis=0)

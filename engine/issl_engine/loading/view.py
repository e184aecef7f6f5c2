"""One view of an image as DALI operators: crop, resize, rotation, policy, colours, blur, noise, normalisation."""

from collections.abc import Iterator
from typing import Any

from nvidia.dali import fn, types

from issl_engine.loading.further import add_noise_and_operators, turn_and_distort
from issl_engine.loading.only_some import on_some
from issl_engine.loading.pixel_operators import solarised, to_grey
from issl_engine.views.config import CropGroup, ViewsConfig
from issl_engine.views.operator_arguments import blurs, changes_colour, changes_contrast, solarises

INTERPOLATION = {"bilinear": types.DALIInterpType.INTERP_LINEAR, "bicubic": types.DALIInterpType.INTERP_CUBIC}


def augmented_view(
    decoded: Any,
    inputs: Iterator[Any],
    further_inputs: Iterator[Any],
    group: CropGroup,
    views: ViewsConfig,
    channels: int,
    output_layout: str,
    on_gpu: bool,
) -> Any:
    """One view in ``output_layout`` (CHW or HWC), float, normalised. Takes its arguments off ``inputs`` and
    ``further_inputs``."""
    size, augmentation = group.size, views.augmentation_of(group)
    start, end, flip = next(inputs), next(inputs), next(inputs)
    view: Any = fn.resize(
        decoded, roi_start=start, roi_end=end, size=[size, size], antialias=True,
        interp_type=INTERPOLATION[views.interpolation],
    )  # fmt: skip
    view = turn_and_distort(view, further_inputs, augmentation, channels, on_gpu)
    if changes_colour(augmentation, channels):
        view = fn.coord_transform(view, M=next(inputs), dtype=types.DALIDataType.UINT8)
    if changes_contrast(augmentation):
        view = contrasted(view, next(inputs), next(inputs), channels)
    if blurs(augmentation):
        sigma, window = next(inputs), next(inputs)
        view = on_some(sigma > 0.0, _blur, view, sigma, window)
    if solarises(augmentation):
        view = solarised(view, next(inputs))
    view = add_noise_and_operators(view, further_inputs, augmentation, on_gpu)
    return normalise(view, *views.normalisation_of(group), channels, output_layout, mirror=flip)


def _blur(view: Any, sigma: Any, window: Any) -> Any:
    return fn.gaussian_blur(view, sigma=sigma, window_size=window)


def contrasted(view: Any, contrast: Any, brightness: Any, channels: int) -> Any:
    """Away from the mean of its grey image by the factor ``contrast``, then times ``brightness``."""
    mean = mean_grey(view, channels)
    if view.device == "cpu":
        return fn.brightness_contrast(view, contrast=contrast, brightness=brightness, contrast_center=mean)
    # Operators take their arguments from the CPU, and copying the mean back there would wait for it.
    return by_arithmetic(view, (contrast * brightness).gpu(), ((1 - contrast) * brightness).gpu() * mean)


def mean_grey(view: Any, channels: int) -> Any:
    return fn.reductions.mean(to_grey(view, channels))


def by_arithmetic(view: Any, gain: Any, shift: Any) -> Any:
    """gain · view + shift, rounded and clipped to 0 to 255 by the cast."""
    return fn.cast(view * gain + shift, dtype=types.DALIDataType.UINT8)


def normalise(
    view: Any,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    channels: int,
    output_layout: str = "CHW",
    **settings: Any,
) -> Any:
    """Float, three channels in ``output_layout`` (CHW or HWC)."""
    scaled_mean, scaled_std = [255 * m for m in mean], [255 * s for s in std]
    if channels == 3:
        return fn.crop_mirror_normalize(
            view,
            mean=scaled_mean,
            std=scaled_std,
            dtype=types.DALIDataType.FLOAT,
            output_layout=output_layout,
            **settings,
        )
    planes = {
        (m, s): fn.crop_mirror_normalize(
            view, mean=[m], std=[s], dtype=types.DALIDataType.FLOAT, output_layout=output_layout, **settings
        )
        for m, s in dict.fromkeys(zip(scaled_mean, scaled_std))
    }
    return fn.cat(*(planes[pair] for pair in zip(scaled_mean, scaled_std)), axis=output_layout.index("C"))

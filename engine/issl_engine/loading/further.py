"""Rotation, noise and the user's operators as DALI operators."""

from collections.abc import Callable, Iterator
from typing import Any

from nvidia.dali import fn, types

from issl_engine.loading.only_some import choose, on_some
from issl_engine.loading.policy import policy_step
from issl_engine.loading.warp import warp
from issl_engine.views.config import Augmentation
from issl_engine.views.user_functions import user_function


def turn_and_distort(view: Any, inputs: Iterator[Any], augmentation: Augmentation, channels: int, on_gpu: bool) -> Any:
    """What comes before the colours: rotation, then the policy. Takes its arguments off ``inputs``."""
    if (rotation := augmentation.rotation) is not None:
        rotated, matrix = next(inputs), next(inputs)
        view = on_some(rotated, lambda crop, by: warp(crop, by, rotation.fill), view, matrix)
    if (policy := augmentation.policy) is not None:
        for _ in range(policy.num_steps):
            view = policy_step(view, inputs, policy, channels, on_gpu)
    return view


def add_noise_and_operators(view: Any, inputs: Iterator[Any], augmentation: Augmentation, on_gpu: bool) -> Any:
    """What comes last: noise, then the user's operators. Takes its arguments off ``inputs``."""
    if augmentation.gaussian_noise is not None:
        noisy, scale, window = next(inputs), next(inputs), next(inputs)
        if on_gpu:
            scale, window = scale.gpu(), window.gpu()
        view = on_some(noisy, _noise, view, scale, window)
    for operator in augmentation.user_operators:
        function = user_function(operator.function, "views.augmentation.operators")  # tried before: imports now
        view = _user_operator(view, next(inputs), function)
    return view


def _noise(crop: Any, scale: Any, window: Any) -> Any:
    return fn.cast(crop + window * scale, dtype=types.DALIDataType.UINT8)


def _user_operator(crop: Any, number: Any, function: Callable[..., Any]) -> Any:
    """Runs on all crops, since constants in a function of the user have the whole batch's length; kept where chosen."""
    uniform = number + (number < 0.0) * 1.0
    return choose(number >= 0.0, function(crop, uniform), crop)

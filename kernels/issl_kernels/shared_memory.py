"""How much shared memory a kernel may count on."""

SHARED_BYTES = {80: 166912, 86: 101376, 87: 166912, 89: 101376, 90: 232448, 100: 232448, 103: 232448, 120: 101376}
"""Compute capability → the most shared memory that a program may ask for (CUDA C++ Programming Guide, table of
technical specifications; 1 KiB of a processor's is the system's)."""

HOPPER_SHARED_BYTES = SHARED_BYTES[90]
LITTLE_SHARED_BYTES = min(SHARED_BYTES.values())
"""What a program has on GPUs that are not made for data centres."""


def shared_bytes() -> int:
    """That of the current device; of one that is not known, the least of all."""
    from triton.runtime import driver

    from issl_kernels.triton_launch import INTERPRETED

    if INTERPRETED:
        return max(SHARED_BYTES.values())

    return SHARED_BYTES.get(driver.active.get_current_target().arch, LITTLE_SHARED_BYTES)

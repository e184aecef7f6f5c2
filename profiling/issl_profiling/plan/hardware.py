"""What the model takes from data sheets. Nothing here was measured.

Sources: NVIDIA H100 Tensor Core GPU data sheet (SXM5 column), NVIDIA H200 Tensor Core GPU data sheet (SXM column),
NVIDIA DGX H100 user guide (eight GPUs per node, one 400 Gbit/s network card per GPU). The sheets give tensor-core
figures with sparsity; dense ones, which training reaches at most, are half of them. They give NVLink's bandwidth as
the sum of both directions; a ring sends one way.
"""

from dataclasses import dataclass

from issl_engine.mistakes import Mistake

GIGA, TERA = 1e9, 1e12


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU. Rates in operations or bytes per second."""

    name: str
    bf16_flops: float
    """Dense, with fp32 sums."""
    tf32_flops: float
    """Dense; what torch's convolutions take for fp32 unless set otherwise."""
    memory_bytes: float
    memory_bandwidth: float
    nvlink_bandwidth: float
    """One direction."""
    power_watts: float
    """Rated, of the GPU alone."""

    def peak_flops(self, precision: str) -> float:
        return self.bf16_flops if precision == "bf16" else self.tf32_flops


GPUS = {
    "h100": Gpu(
        name="H100 SXM", bf16_flops=1979 / 2 * TERA, tf32_flops=989 / 2 * TERA, memory_bytes=80 * GIGA,
        memory_bandwidth=3.35 * TERA, nvlink_bandwidth=900 / 2 * GIGA, power_watts=700,
    ),
    "h200": Gpu(
        name="H200 SXM", bf16_flops=1979 / 2 * TERA, tf32_flops=989 / 2 * TERA, memory_bytes=141 * GIGA,
        memory_bandwidth=4.8 * TERA, nvlink_bandwidth=900 / 2 * GIGA, power_watts=700,
    ),
}  # fmt: skip
GPUS_PER_NODE = 8


def gpu_named(name: str) -> Gpu:
    """Raises Mistake for one that the table has not."""
    if name not in GPUS:
        raise Mistake(f"--gpu {name}: no data sheet of it is known here; choose one of {', '.join(GPUS)}")
    return GPUS[name]

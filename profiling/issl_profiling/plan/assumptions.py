"""What the model assumes and nobody measured: each is an option of the command or stands here with its reason."""

from dataclasses import dataclass

from issl_engine.mistakes import Mistake


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Printed with every plan."""

    mfu: float = 0.1
    """Model FLOP utilisation: counted operations over the GPU's dense peak, of a step without communication. Low, since
    convolutional networks with batch-norm are far from the peak."""
    overlap: float = 0.0
    """Share of the gradients' exchange that hides behind the backward pass. DeepSpeed, as it is configured here, begins
    after it (ZeRO 0) or waits for each bucket (overlap_comm is off): 0."""
    network_gbit: float = 400.0
    """Of one GPU's network card, one direction, in Gbit/s."""
    link_efficiency: float = 0.8
    """Share of a link's bandwidth that a large message gets."""
    memory_efficiency: float = 0.8
    """Share of the memory's bandwidth that element-wise work gets."""
    touches: float = 6.0
    """How often a saved activation's bytes cross the memory bus in a step: written and read in the forward pass, read
    in the backward one, its gradient written and read, and once more for batch-norm's statistics."""
    launch_s: float = 8e-6
    """Of the host, an operation of the encoder's forward or backward pass: what a small batch waits for."""
    nvlink_latency_s: float = 5e-6
    """Of one hop inside a node."""
    network_latency_s: float = 15e-6
    """Of one hop between nodes."""
    reserve_bytes: float = 3e9
    """CUDA's context, NCCL's buffers, the loader's images and what the allocator cannot use."""

    def __post_init__(self) -> None:
        for name, unit in (("mfu", "above 0 and at most 1"), ("overlap", "from 0 to 1")):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "mfu" and value == 0):
                raise Mistake(f"--{name} is {value:g}; it must be {unit}")
        if self.network_gbit <= 0:
            raise Mistake(f"--network is {self.network_gbit:g}; it must be above 0 Gbit/s")

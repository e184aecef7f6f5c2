"""What probes have in common that are solved to their optimum: how near, and for how long."""

from typing import Annotated

from pydantic import Field

from issl_engine.probing.probes.grid import GridProbeConfig


class ConvexProbeConfig(GridProbeConfig):
    """Base of probes whose loss is convex."""

    tolerance: Annotated[float, Field(gt=0)] = 1e-4
    """A fit ends when its penalised loss is certainly no more than this above its minimum, in nats per image. The bound
    (a duality gap) is reported; where it is not reached, a warning says so."""
    max_iterations: Annotated[int, Field(ge=1)] = 2000
    """Steps of L-BFGS for each penalty, at the most; each penalty starts from the solution of the stronger one
    before."""

    @property
    def largest_gap(self) -> float:
        return self.tolerance

    def describe(self) -> str:
        return f"solved to a duality gap of {self.tolerance:g} nats"

"""Sizes and settings at which InfoNCE is tested and timed.

Letters: V views of the anchors, G of the targets, B images, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_kernels.case import Case, Work, normal


@dataclass(frozen=True, kw_only=True)
class ContrastiveCase(Case):
    """Every anchor against every target."""

    differentiable_inputs = 2

    V: int
    G: int
    B: int
    D: int
    keep_self: bool
    row_norm: float = 1.0
    """Length of the rows; their products reach row_norm²."""

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Anchors [V, B, D] and targets [G, B, D]; views of an image resemble each other, as in training."""
        image_BD = normal(self.B, self.D, seed=seed)
        anchors_VBD = image_BD + normal(self.V, self.B, self.D, seed=seed + 1)
        targets_GBD = image_BD + normal(self.G, self.B, self.D, seed=seed + 2)
        scaled = (self.row_norm * torch.nn.functional.normalize(x, dim=-1) for x in (anchors_VBD, targets_GBD))
        return tuple(x.to(device=device, dtype=dtype) for x in scaled)

    @property
    def _logits(self) -> float:
        return float(self.V * self.B) * (self.G * self.B)

    def forward_work(self, element_bytes: int) -> Work:
        """One product; both inputs read once."""
        rows = (self.V + self.G) * self.B
        return Work(2 * self._logits * self.D, element_bytes * rows * self.D, self._logits)

    def backward_work(self, element_bytes: int) -> Work:
        """Three products, since the logits are made again; inputs read and gradients written once."""
        rows = (self.V + self.G) * self.B
        return Work(6 * self._logits * self.D, 2 * element_bytes * rows * self.D, self._logits)


@dataclass(frozen=True, kw_only=True)
class InfoNCECase(ContrastiveCase):
    temperature: float

    def call(self, operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return operation(*inputs, temperature=self.temperature, keep_self=self.keep_self)


TEST_CASES = (
    InfoNCECase(name="simclr", V=2, G=2, B=17, D=7, temperature=0.2, keep_self=False),
    InfoNCECase(name="simclr_multicrop", V=5, G=2, B=9, D=12, temperature=0.1, keep_self=False),
    InfoNCECase(name="simclr_one_target_view", V=3, G=1, B=8, D=7, temperature=0.2, keep_self=False),
    InfoNCECase(name="simclr_one_image", V=2, G=2, B=1, D=5, temperature=0.1, keep_self=False),
    InfoNCECase(name="cissl", V=2, G=2, B=17, D=7, temperature=0.07, keep_self=True),
    InfoNCECase(name="cissl_multicrop", V=5, G=2, B=9, D=12, temperature=0.07, keep_self=True),
    InfoNCECase(name="cissl_one_view_one_image", V=1, G=1, B=1, D=5, temperature=0.1, keep_self=True),
    InfoNCECase(name="peaked", V=3, G=2, B=17, D=7, temperature=0.01, keep_self=False),
    InfoNCECase(name="logits_10_000", V=3, G=2, B=17, D=7, temperature=0.01, keep_self=True, row_norm=10.0),
)
BENCH_CASES = (
    InfoNCECase(name="8192_rows_128", V=2, G=2, B=4096, D=128, temperature=0.1, keep_self=False),
    InfoNCECase(name="8192_rows_128_cissl", V=2, G=2, B=4096, D=128, temperature=0.07, keep_self=True),
    InfoNCECase(name="65536_rows_512", V=2, G=2, B=32768, D=512, temperature=0.1, keep_self=False),
    InfoNCECase(name="65536_rows_512_cissl", V=2, G=2, B=32768, D=512, temperature=0.07, keep_self=True),
    InfoNCECase(name="131072_rows_256", V=2, G=2, B=65536, D=256, temperature=0.1, keep_self=False),
)
CPU_BENCH_CASES = (InfoNCECase(name="4096_rows_128", V=2, G=2, B=2048, D=128, temperature=0.1, keep_self=False),)

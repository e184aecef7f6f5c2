"""Several multilayer perceptrons of one shape, computed together.

Letters: S networks, B images, K inputs and J outputs of a layer, D width of the representation, C classes.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

STATISTICS_MOMENTUM = 0.1
"""Weight of the newest batch in batch-norm's running statistics."""
EPSILON = 1e-5


class MLPStack:
    """Layers Linear - BatchNorm - ReLU, the last one Linear alone; all networks start alike, as torch.nn.Linear does.

    ``widths`` are the inputs', each hidden layer's and the outputs'. Hidden layers have no bias but batch-norm's.
    """

    def __init__(self, widths: Sequence[int], count: int, *, generator: torch.Generator, device: torch.device) -> None:
        def many(tensor: Tensor) -> Tensor:
            return tensor.to(device).expand(count, *tensor.shape).clone()

        def uniform(*shape: int, inputs: int) -> Tensor:
            return (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(inputs)

        pairs = list(itertools.pairwise(widths))
        self.weights_SJK = [many(uniform(J, K, inputs=K)).requires_grad_() for K, J in pairs]
        self.gains_SJ = [many(torch.ones(J)).requires_grad_() for _, J in pairs[:-1]]
        self.shifts_SJ = [many(torch.zeros(J)).requires_grad_() for _, J in pairs[:-1]]
        self.bias_SC = many(uniform(widths[-1], inputs=widths[-2])).requires_grad_()
        self.means_SJ = [torch.zeros_like(gain_SJ, requires_grad=False) for gain_SJ in self.gains_SJ]
        self.variances_SJ = [torch.ones_like(gain_SJ, requires_grad=False) for gain_SJ in self.gains_SJ]

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights_SJK, *self.gains_SJ, *self.shifts_SJ, self.bias_SC]

    def outputs(self, x_BD: Tensor, *, training: bool) -> Tensor:
        """[s, b, c]; in training batch-norm takes the batch's statistics, and the running ones follow."""
        x_SBK = x_BD.expand(len(self.bias_SC), *x_BD.shape)
        for layer in range(len(self.gains_SJ)):
            z_SBJ = torch.bmm(x_SBK, self.weights_SJK[layer].transpose(1, 2))
            x_SBK = self._normalised(z_SBJ, layer, training=training).relu()
        return torch.baddbmm(self.bias_SC[:, None], x_SBK, self.weights_SJK[-1].transpose(1, 2))

    def state(self) -> dict[str, Tensor]:
        """Parameters and running statistics, by name."""
        groups = {
            "weights": self.weights_SJK, "gains": self.gains_SJ, "shifts": self.shifts_SJ, "means": self.means_SJ,
            "variances": self.variances_SJ,
        }  # fmt: skip
        named = {f"{name}{place}": t.detach() for name, group in groups.items() for place, t in enumerate(group)}
        return named | {"bias": self.bias_SC.detach()}

    def _normalised(self, z_SBJ: Tensor, layer: int, *, training: bool) -> Tensor:
        mean_SJ, variance_SJ = self.means_SJ[layer], self.variances_SJ[layer]
        if training:
            count = z_SBJ.shape[1]
            running_mean_SJ, running_variance_SJ = mean_SJ, variance_SJ
            variance_SJ, mean_SJ = torch.var_mean(z_SBJ, dim=1, correction=0)
            running_mean_SJ.lerp_(mean_SJ.detach(), STATISTICS_MOMENTUM)
            # The running variance is the unbiased one, as torch's batch-norm has it.
            running_variance_SJ.lerp_(variance_SJ.detach() * (count / (count - 1)), STATISTICS_MOMENTUM)
        scale_SJ = self.gains_SJ[layer] * (variance_SJ + EPSILON).rsqrt()
        return torch.addcmul((self.shifts_SJ[layer] - mean_SJ * scale_SJ)[:, None], z_SBJ, scale_SJ[:, None])

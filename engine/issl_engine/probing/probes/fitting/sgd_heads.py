"""Linear heads of a whole grid, trained together by SGD on batches as they come.

Letters: S points of the grid in G groups that see the features normalised in the same way, C classes, D width, B images
of a batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from issl_engine.probing.probes.fitting.predictor import LinearClassifier, grouped_outputs
from issl_engine.probing.probes.grid import Point

MOMENTUM = 0.9


class SgdHeads:
    """SGD with momentum on the mean cross-entropy; ``points`` have an ``lr`` and a ``weight_decay``.

    Heads start at zero. Weight decay is added to the gradient and leaves the biases alone. A step is two batched
    matmuls for all points, so all see the same batches.
    """

    def __init__(self, points: Sequence[Point], num_classes: int, scale_G1D: Tensor, offset_G1D: Tensor) -> None:
        S, D, device = len(points), scale_G1D.shape[2], scale_G1D.device
        self.scale_G1D, self.offset_G1D = scale_G1D, offset_G1D
        self.weights_SCD = torch.zeros(S, num_classes, D, device=device)
        self.bias_SC = torch.zeros(S, num_classes, device=device)
        self._speed_SCD, self._speed_SC = torch.zeros_like(self.weights_SCD), torch.zeros_like(self.bias_SC)
        self._lr_S1 = torch.tensor([float(point["lr"]) for point in points], device=device)[:, None]
        decays = [float(point["weight_decay"]) for point in points]
        self._decay_S11 = torch.tensor(decays, device=device)[:, None, None]

    def step(self, x_BD: Tensor, labels_B: Tensor, rate: float) -> None:
        """One step at ``rate`` times each point's learning rate; ``x_BD`` float32 and ``labels_B`` int64, where the
        heads lie."""
        B, G = len(x_BD), len(self.scale_G1D)
        rows_GBD = torch.addcmul(self.offset_G1D, x_BD, self.scale_G1D)
        # The gradient of the mean cross-entropy with respect to the logits: (softmax - one-hot) / B.
        d_SCB = grouped_outputs(self.weights_SCD, self.bias_SC, rows_GBD).softmax(1)
        d_SCB[:, labels_B, torch.arange(B, device=x_BD.device)] -= 1
        d_SCB /= B
        self._speed_SCD.mul_(MOMENTUM).add_(self._decay_S11 * self.weights_SCD)
        self._speed_SCD.view(G, -1, x_BD.shape[1]).baddbmm_(d_SCB.view(G, -1, B), rows_GBD)
        self._speed_SC.mul_(MOMENTUM).add_(d_SCB.sum(2))
        self.weights_SCD -= (rate * self._lr_S1)[..., None] * self._speed_SCD
        self.bias_SC -= rate * self._lr_S1 * self._speed_SC

    def classifier(self) -> LinearClassifier:
        """The heads as they are."""
        return LinearClassifier(
            weights_SCD=self.weights_SCD, bias_SC=self.bias_SC, scale_G1D=self.scale_G1D, offset_G1D=self.offset_G1D
        )

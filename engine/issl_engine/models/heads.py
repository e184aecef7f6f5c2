"""Projection heads: what stands between the representation and a loss, and is thrown away after pretraining.

Letters: any leading axes (views, batch), D input width, P output width. Batch-norm sees all leading axes as one batch.
"""

from torch import Tensor, nn


class Head(nn.Module):
    """Applies its layers to [..., D] as rows; returns [..., P]."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        rows = self.layers(z.flatten(0, -2))
        return rows.unflatten(0, z.shape[:-1])


def linear_head(dim: int, out_dim: int, *, batch_norm: bool = True) -> Head:
    """Linear, then batch-norm without a learnt scale or shift: a linear probe's architecture, with fixed statistics."""
    layers: list[nn.Module] = [nn.Linear(dim, out_dim, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm1d(out_dim, affine=False))
    return Head(*layers)


def mlp_head(
    dim: int, hidden_dim: int, out_dim: int, *, hidden_layers: int = 1, batch_norm: bool = True, last_batch_norm: bool = False,
    activation: type[nn.Module] = nn.ReLU,
) -> Head:  # fmt: skip
    """``hidden_layers`` of (linear, batch-norm, activation), then linear, then batch-norm if ``last_batch_norm``."""
    layers: list[nn.Module] = []
    width = dim
    for _ in range(hidden_layers):
        layers.append(nn.Linear(width, hidden_dim, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(hidden_dim))
        layers.append(activation())
        width = hidden_dim
    layers.append(nn.Linear(width, out_dim, bias=not last_batch_norm))
    if last_batch_norm:
        layers.append(nn.BatchNorm1d(out_dim))
    return Head(*layers)


def bottleneck_classifier(dim: int, bottleneck_dim: int, num_classes: int) -> Head:
    """Linear → batch-norm → linear: a linear classifier of many classes at rank ``bottleneck_dim`` (DISSL's student)."""
    return Head(
        nn.Linear(dim, bottleneck_dim, bias=False), nn.BatchNorm1d(bottleneck_dim), nn.Linear(bottleneck_dim, num_classes)
    )


class ResidualMLP(nn.Module):
    """x + MLP(x), one hidden layer, batch-norm after each linear layer, ReLU after the sum."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Linear(dim, hidden_dim, bias=False), nn.BatchNorm1d(hidden_dim), nn.ReLU(),
            nn.Linear(hidden_dim, dim, bias=False), nn.BatchNorm1d(dim),
        )  # fmt: skip
        self.activation = nn.ReLU()

    def forward(self, rows: Tensor) -> Tensor:
        return self.activation(rows + self.branch(rows))

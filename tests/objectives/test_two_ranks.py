"""Two gloo ranks give the loss, gradients and state of one process with all images, for every objective.

Batch-norm is in eval mode: the objective alone would normalise by each rank's own rows (training synchronises
it).
"""

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.objectives.base import ObjectiveOutput
from issl_engine.ranks import Ranks
from issl_engine.regularizers.koleo import KoLeoConfig
from issl_engine.regularizers.ldreg import LDRegConfig
from issl_engine.regularizers.penalties import Penalties
from issl_kernels.collectives import all_gather

from .conftest import config, features, forward, image_ids, progress, shape
from .small_objectives import SMALL

Results = dict[str, dict[str, Tensor]]

IMAGES, VIEWS, STEPS = 6, 4, 4


def run(name: str, rank: int, ranks: int, group: ProcessGroup | None) -> dict[str, Tensor]:
    """Losses, gradients (averaged over ranks as the engine does), metrics and state of a few SGD steps."""
    torch.manual_seed(0)
    settings = config(name, **SMALL[name].two_ranks)
    objective = settings.build(shape(VIEWS, images=IMAGES, ranks=ranks), group).double().eval()
    for module in objective.modules():
        if (
            isinstance(module, nn.BatchNorm1d) and module.affine
        ):  # or a row whose hidden units are all off has length zero
            nn.init.uniform_(module.bias, 0.5, 1.5)
    mine = slice(rank * IMAGES // ranks, (rank + 1) * IMAGES // ranks)
    result: dict[str, Tensor] = {}
    for step in range(STEPS):
        z = features(VIEWS, images=IMAGES, seed=step)[:, mine].clone().requires_grad_()
        teacher = None
        if objective.uses_ema_teacher:
            with torch.no_grad():
                teacher = objective.projector(features(2, images=IMAGES, seed=100 + step)[:, mine])
        objective.zero_grad(set_to_none=False)
        loss, metrics = forward(objective, z, teacher, progress(step), image_ids(IMAGES)[mine])
        loss.backward()
        assert z.grad is not None
        z_grad = z.grad / ranks
        if group is not None:
            parts = [torch.empty_like(z_grad) for _ in range(ranks)]
            dist.all_gather(parts, z_grad, group=group)
            z_grad = torch.cat(parts, dim=1)
        result |= {f"{step} loss": loss.detach(), f"{step} gradient of z": z_grad}
        result |= {f"{step} metric {key}": value.double() for key, value in metrics.items()}
        for key, parameter in objective.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            if group is not None:
                dist.all_reduce(gradient, group=group)
            result[f"{step} gradient of {key}"] = gradient / ranks
            parameter.data -= 0.1 * gradient / ranks
        objective.after_step(progress(step + 1))
    for key, buffer in objective.named_buffers():
        if key == "queue" and group is not None:
            parts = [torch.empty_like(buffer) for _ in range(ranks)]
            dist.all_gather(parts, buffer, group=group)
            # Each rank's queue is its share of every batch, oldest batch first.
            per_batch = IMAGES // ranks
            buffer = torch.cat([part.unflatten(1, (-1, per_batch)) for part in parts], dim=2).flatten(1, 2)
        result[f"buffer {key}"] = buffer.clone()
    return result


def regularize(rank: int, ranks: int, group: ProcessGroup | None) -> dict[str, Tensor]:
    """The regularisers' penalties, and the gradient of their weighted sum."""
    configs = (KoLeoConfig(), LDRegConfig(num_neighbours=4, weight=0.3))
    penalties = Penalties(configs, shape(VIEWS, images=IMAGES, ranks=ranks), group)
    mine = slice(rank * IMAGES // ranks, (rank + 1) * IMAGES // ranks)
    z = features(2, images=IMAGES)[:, mine].clone().requires_grad_()
    loss, metrics = penalties(z, ObjectiveOutput(torch.zeros((), dtype=z.dtype), {}), progress())
    loss.backward()
    assert z.grad is not None
    gradient = all_gather(z.grad / ranks, group, dim=1)
    return {"loss": loss.detach(), "gradient of z": gradient} | metrics


def results_on_rank(ranks: Ranks) -> Results:
    results = {name: run(name, ranks.rank, ranks.world_size, ranks.group) for name in SMALL}
    results["regularizers"] = regularize(ranks.rank, ranks.world_size, ranks.group)
    return results


@pytest.fixture(scope="module")
def ranks(run_ranks: Callable[..., list[Results]]) -> list[Results]:
    return run_ranks(results_on_rank)


@pytest.mark.parametrize("name", SMALL)
def test_two_ranks_equal_one(name: str, ranks: list[Results]) -> None:
    one = run(name, 0, 1, None)
    for two in (ranks[0][name], ranks[1][name]):
        assert two.keys() == one.keys()
        for key, expected in one.items():
            torch.testing.assert_close(
                two[key], expected, rtol=1e-8, atol=1e-10, msg=lambda text, k=key: f"{k}: {text}"
            )


def test_two_ranks_regularize_as_one(ranks: list[Results]) -> None:
    one = regularize(0, 1, None)
    for two in (ranks[0]["regularizers"], ranks[1]["regularizers"]):
        torch.testing.assert_close(two, one, rtol=1e-8, atol=1e-10)

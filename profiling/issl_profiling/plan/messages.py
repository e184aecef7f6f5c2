"""What ranks send each other in one step: kind, bytes and number of the messages, from the recipe alone.

Letters: V views, G global ones, B images per rank, W ranks, P width of a projection, K prototypes or classes.
Objectives without a formula here (``EXCHANGED``) raise, so that no plan leaves out what it does not know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from issl_engine.mistakes import Mistake
from issl_engine.objectives.view_pairs import view_pairs
from issl_engine.recipe.schema import Recipe
from issl_profiling.plan.counts import BYTES_OF_FP32, Counts

BYTES_OF_FP64 = 8
Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "ring"]
Part = Literal["gradients", "objective", "batch-norm", "online probe", "checks"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """``count`` messages of ``payload_bytes`` each: what one rank brings in (all_reduce, all_gather, one step of a
    ring), or all ranks' rows together (reduce_scatter)."""

    part: Part
    kind: Kind
    payload_bytes: float
    count: int = 1

    @property
    def total_bytes(self) -> float:
        return self.count * self.payload_bytes


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the formulas read."""

    recipe: Recipe
    counts: Counts
    images_per_rank: int
    ranks: int
    num_classes: int
    zero_stage: int
    nccl: bool
    """Otherwise gloo, where a reduce-scatter is an all-reduce."""


def messages(sizes: Sizes) -> list[Message]:
    """Of one step on one rank; none for a lone one. Raises Mistake for an objective that is not known here."""
    if sizes.ranks == 1:
        return []
    passes = sizes.recipe.training.accumulation_steps
    of_a_pass = [*_objective(sizes), *_batch_norm(sizes), *_probe(sizes)]
    repeated = [
        Message(part=one.part, kind=one.kind, payload_bytes=one.payload_bytes, count=one.count * passes)
        for one in of_a_pass
    ]
    return [*_gradients(sizes), *repeated, _report(sizes), *_norms_of_layers(sizes)]


def _reduce(part: Part, payload_bytes: float, count: int = 1) -> Message:
    return Message(part=part, kind="all_reduce", payload_bytes=payload_bytes, count=count)


def _gradients(sizes: Sizes) -> list[Message]:
    """In fp32, as the weights are. With ZeRO 1 and 2 too DeepSpeed 0.19 sums whole buckets by all-reduce and each rank
    keeps its part; the new weights are gathered."""
    size = BYTES_OF_FP32 * sizes.counts.trained_parameters
    if sizes.zero_stage == 0:
        return [_reduce("gradients", size)]
    return [
        _reduce("gradients", size),
        Message(part="gradients", kind="all_gather", payload_bytes=size / sizes.ranks),
    ]


def _report(sizes: Sizes) -> Message:
    """The step's report: gradient norm, ranks that were asked to stop, one flag per rank for its loss."""
    return _reduce("checks", BYTES_OF_FP32 * (2 + sizes.ranks))


def _norms_of_layers(sizes: Sizes) -> list[Message]:
    """LARC under ZeRO: squared norms of each parameter and of its gradient."""
    if sizes.recipe.optimizer.name != "larc" or sizes.zero_stage == 0:
        return []
    return [_reduce("gradients", BYTES_OF_FP32 * 2 * sizes.counts.trained_tensors)]


def _batch_norm(sizes: Sizes) -> list[Message]:
    """Mean, deviation and count of each layer are gathered; two sums come back, but not to the teacher."""
    if not sizes.recipe.training.sync_batch_norm:
        return []
    own, teacher = sizes.counts.batch_norm_channels, sizes.counts.teacher_batch_norm_channels
    gathered = [
        Message(part="batch-norm", kind="all_gather", payload_bytes=BYTES_OF_FP32 * (2 * channels + 1))
        for channels in (*own, *teacher)
    ]
    return [*gathered, *(_reduce("batch-norm", BYTES_OF_FP32 * 2 * channels) for channels in own)]


def _probe(sizes: Sizes) -> list[Message]:
    """Its batch-norm's statistics; then the gradients of weights and biases with loss and accuracy, in one."""
    if sizes.recipe.online_probe is None:
        return []
    dim = sizes.counts.feature_dim
    return [
        Message(part="online probe", kind="all_gather", payload_bytes=BYTES_OF_FP32 * (2 * dim + 1)),
        _reduce("online probe", BYTES_OF_FP32 * (sizes.num_classes * (dim + 1) + 2)),
    ]


def _objective(sizes: Sizes) -> list[Message]:
    name = sizes.recipe.objective.name
    if name not in EXCHANGED:
        raise Mistake(
            f"objective {name}: what its ranks exchange has no formula in issl_profiling/plan/messages.py; add one"
        )
    return EXCHANGED[name](sizes, sizes.recipe.objective)


def _same_size_check(sizes: Sizes) -> list[Message]:
    """Whether all ranks bring as many images: two whole numbers of 8 bytes. NCCL is not asked."""
    return [] if sizes.nccl else [_reduce("objective", 2 * 8)]


def _contrastive(sizes: Sizes, objective: Any) -> list[Message]:
    """SimCLR and CISSL: the targets' rows, their gradients, 2 P + 8 sums, the loss's gradient. AnInfoNCE: with rows of
    one more number."""
    G, P = sizes.recipe.views.num_global_views, objective.projection_dim + (objective.name == "aninfonce")
    rows = BYTES_OF_FP32 * G * sizes.images_per_rank * P
    sums = [_reduce("objective", BYTES_OF_FP32 * (2 * P + 8)), _reduce("objective", BYTES_OF_FP32)]
    if objective.exchange == "ring":
        steps = 3 * sizes.ranks - 2  # W - 1 forward; on the way back W - 1 of rows and W of gradients
        exchanged = [Message(part="objective", kind="ring", payload_bytes=rows, count=steps)]
    else:
        back: Kind = "reduce_scatter" if sizes.nccl else "all_reduce"
        exchanged = [
            Message(part="objective", kind="all_gather", payload_bytes=rows),
            Message(part="objective", kind=back, payload_bytes=rows * sizes.ranks),
        ]
    return [*_same_size_check(sizes), *exchanged, *sums]


def _loss_twice() -> list[Message]:
    """A mean loss summed forward, its gradient summed backward."""
    return [_reduce("objective", BYTES_OF_FP32, count=2)]


def _statistics(num_prototypes: int) -> Message:
    return _reduce("objective", BYTES_OF_FP32 * (2 * num_prototypes + 1))


def _swav(sizes: Sizes, objective: Any) -> list[Message]:
    """Sinkhorn a global view: the columns' highest scores in fp64, then a maximum and a sum an iteration."""
    G, K = sizes.recipe.views.num_global_views, objective.num_prototypes
    column = _reduce("objective", BYTES_OF_FP64 * K, count=G * (1 + 2 * objective.sinkhorn_iterations))
    return [column, *_loss_twice(), _statistics(K)]


def _dino(sizes: Sizes, objective: Any) -> list[Message]:
    K = objective.num_prototypes
    return [*_loss_twice(), _reduce("objective", BYTES_OF_FP32 * K), _statistics(K)]


def _dissl(sizes: Sizes, objective: Any) -> list[Message]:
    """Marginals of each teacher view, used classes, three sums, the loss's gradient."""
    G, C = sizes.recipe.views.num_global_views, objective.num_classes
    numbers = (G * C, C, 3, 1)
    return [_reduce("objective", BYTES_OF_FP32 * number) for number in numbers]


def _vicreg(sizes: Sizes, objective: Any) -> list[Message]:
    """VICReg and MMCR: all projections, and their gradients back."""
    rows = BYTES_OF_FP32 * sizes.recipe.views.num_views * sizes.images_per_rank * objective.projection_dim
    back: Kind = "reduce_scatter" if sizes.nccl else "all_reduce"
    return [
        Message(part="objective", kind="all_gather", payload_bytes=rows),
        Message(part="objective", kind=back, payload_bytes=rows * sizes.ranks),
    ]


def _barlow_twins(sizes: Sizes, objective: Any) -> list[Message]:
    """A pair of views: columns standardised (two sums per view, and back), the correlation matrix forward and backward,
    the loss's gradient. Then five sums for the log."""
    P, views = objective.projection_dim, sizes.recipe.views
    pairs = len(view_pairs(views.num_views, views.num_global_views, objective.name))
    return [
        _reduce("objective", BYTES_OF_FP32 * P, count=8 * pairs),
        _reduce("objective", BYTES_OF_FP32 * P * P, count=2 * pairs),
        _reduce("objective", BYTES_OF_FP32, count=pairs),
        _reduce("objective", BYTES_OF_FP32 * 5 * P),
    ]


def _cosine(sizes: Sizes, objective: Any) -> list[Message]:
    """BYOL and SimSiam: the mean cosine, and the projections' mean for the log."""
    return [*_loss_twice(), _reduce("objective", BYTES_OF_FP32 * objective.projection_dim)]


def _sem(sizes: Sizes, objective: Any) -> list[Message]:
    """As BYOL, and the mean entropy of the simplices for the log."""
    return [*_cosine(sizes, objective), _reduce("objective", BYTES_OF_FP32)]


def _with_teacher(sizes: Sizes, objective: Any) -> list[Message]:
    """Matrix-SSL and SSL-HSIC: as VICReg; the teacher's projections, and their mean for the log."""
    rows = BYTES_OF_FP32 * sizes.recipe.views.num_global_views * sizes.images_per_rank * objective.projection_dim
    return [
        *_vicreg(sizes, objective),
        Message(part="objective", kind="all_gather", payload_bytes=rows),
        _reduce("objective", BYTES_OF_FP32 * objective.projection_dim),
    ]


def _falcon(sizes: Sizes, objective: Any) -> list[Message]:
    """As DISSL, over codes."""
    G, C = sizes.recipe.views.num_global_views, objective.num_codes
    return [_reduce("objective", BYTES_OF_FP32 * number) for number in (G * C, C, 3, 1)]


EXCHANGED: dict[str, Callable[[Sizes, Any], list[Message]]] = {
    "simclr": _contrastive, "cissl": _contrastive, "swav": _swav, "dino": _dino, "dissl": _dissl, "vicreg": _vicreg,
    "barlow_twins": _barlow_twins, "byol": _cosine, "simsiam": _cosine,
    "aninfonce": _contrastive, "mmcr": _vicreg, "sem": _sem, "falcon": _falcon,
    "matrix_ssl": _with_teacher, "ssl_hsic": _with_teacher,
}  # fmt: skip
"""Objective → its messages."""

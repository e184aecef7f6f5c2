"""The parts of pretraining, each made from the recipe: encoder, learner, views, engine."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from issl_engine.loading import TrainingViews
from issl_engine.mistakes import mistakes_from
from issl_engine.models.activation_checkpointing import recompute_in_backward
from issl_engine.models.encoders.base import Encoder
from issl_engine.models.guarded_buffers import GuardedBuffers
from issl_engine.models.synchronised_batch_norm import synchronise_batch_norm
from issl_engine.objectives.base import ObjectiveShape
from issl_engine.optim.larc import LARC
from issl_engine.optim.loaded_state import fit_loaded_state
from issl_engine.probing.online import OnlineProbe
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.regularizers.penalties import Penalties
from issl_engine.sources.base import Dataset
from issl_engine.training.compiled import compile_learner
from issl_engine.training.deepspeed import Engine, EngineSettings
from issl_engine.training.guard import GuardSettings, StepGuard
from issl_engine.training.learner import Learner
from issl_engine.training.plan import Plan
from issl_kernels import set_kernel_path
from issl_kernels.path import check_path_runs_on

_SEED_STRIDE = 0x9E3779B1
"""2^32 over the golden ratio: seeds of ranks lie far apart in the 32 bits that torch's generator for CPUs looks at."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one rank trains, and by what; ``online_probe`` is None where the recipe has none."""

    recipe: Recipe
    plan: Plan
    ranks: Ranks
    learner: Learner
    online_probe: OnlineProbe | None
    engine: Engine


def build_training(recipe: Recipe, dataset: Dataset, plan: Plan, ranks: Ranks, seed: int) -> Training:
    """With the weights that the seed gives, on this rank's device."""
    learner = build_learner(recipe, plan, ranks, seed)
    online_probe = build_online_probe(recipe, dataset, learner, ranks)
    engine = build_engine(learner, recipe, plan)
    return Training(
        recipe=recipe, plan=plan, ranks=ranks, learner=learner, online_probe=online_probe, engine=engine
    )  # fmt: skip


def build_encoder(recipe: Recipe, seed: int) -> Encoder:
    """The encoder as pretraining with this seed starts from: also the untrained control."""
    torch.manual_seed(seed)
    return recipe.encoder.build(image_size=recipe.views.largest_size)


def build_learner(recipe: Recipe, plan: Plan, ranks: Ranks, seed: int) -> Learner:
    """Encoder and heads with the seed's weights, on this rank's device."""
    with mistakes_from(ValueError):  # the kernels' own, of a path that this device cannot take
        set_kernel_path(recipe.training.kernels)
        check_path_runs_on(ranks.device)
    encoder = build_encoder(recipe, seed)
    shape = ObjectiveShape(
        feature_dim=encoder.dim,
        num_views=recipe.views.num_views,
        num_global_views=recipe.views.num_global_views,
        batch_size=plan.loss_batch_size,
        num_images=plan.num_images,
        world_size=ranks.world_size,
    )
    objective = recipe.objective.build(shape, ranks.group)
    learner = Learner(
        encoder,
        objective,
        num_global_views=recipe.views.num_global_views,
        channels_last=recipe.training.channels_last,
        view_batching=recipe.training.view_batching,
        penalties=Penalties(recipe.regularizers, shape, ranks.group) if recipe.regularizers else None,
    ).to(ranks.device)
    if recipe.training.activation_checkpointing:
        recompute_in_backward(learner.encoder.blocks())
    if ranks.group is not None and recipe.training.sync_batch_norm:
        if ranks.device.type == "cuda":  # torch's has kernels of its own, for GPUs only
            learner = nn.SyncBatchNorm.convert_sync_batchnorm(learner)  # type: ignore[no-untyped-call]
        else:
            synchronise_batch_norm(learner, ranks.group)
    # Weights are alike on all ranks; what an encoder draws while it trains, such as dropped paths, must not be.
    torch.manual_seed((seed + ranks.rank * _SEED_STRIDE) % 2**32)
    return learner


def build_online_probe(recipe: Recipe, dataset: Dataset, learner: Learner, ranks: Ranks) -> OnlineProbe | None:
    """The probe beside the encoder, on this rank's device; None where the recipe has none."""
    if recipe.online_probe is None:
        return None
    probe = OnlineProbe(learner.encoder.dim, dataset.num_classes, lr=recipe.online_probe.lr, group=ranks.group)
    return probe.to(ranks.device)


def build_views(
    recipe: Recipe, dataset: Dataset, plan: Plan, ranks: Ranks, *, seed: int, start_batch: int = 0
) -> TrainingViews:
    """This rank's loader, which gives crops in the type and memory order that the encoder takes."""
    training = recipe.training
    return TrainingViews(
        dataset.pretraining_images, recipe.views, batch_size=plan.micro_batch_size, rank=ranks.rank,
        world_size=ranks.world_size, seed=seed, device=ranks.device, num_threads=recipe.data.decode_threads,
        prefetch_batches=recipe.data.prefetch_batches, start_batch=start_batch,
        accumulation_steps=training.accumulation_steps,
        dtype=torch.bfloat16 if training.precision == "bf16" else torch.float32,
        channels_last=training.channels_last, cache_bytes=recipe.data.cache_bytes,
    )  # fmt: skip


def build_engine(learner: Learner, recipe: Recipe, plan: Plan) -> Engine:
    """The learner under DeepSpeed with the recipe's optimiser."""
    optimizer = recipe.optimizer.build(
        learner.trainable_parameters(), no_decay=learner.no_decay_parameters(), lr=plan.peak_lr
    )
    limit = recipe.training.clip_gradient_value
    if limit is not None:
        optimizer.register_step_pre_hook(lambda stepping, *_: _clip_values(stepping, limit))
    settings = EngineSettings(
        micro_batch_size=plan.micro_batch_size,
        accumulation_steps=recipe.training.accumulation_steps,
        zero_stage=recipe.deepspeed.zero_stage,
        precision=recipe.training.precision,
    )
    fit_loaded_state(optimizer)
    guard = StepGuard(
        GuardSettings(
            on_non_finite=recipe.training.on_non_finite,
            max_skipped_steps=recipe.training.max_skipped_steps,
            clip_gradient_norm=recipe.training.clip_gradient_norm,
        ),
        GuardedBuffers(learner.buffers()),
    )
    engine = Engine(learner, optimizer, settings, guard)
    if isinstance(optimizer, LARC) and recipe.deepspeed.zero_stage > 0:
        every_rank = dist.group.WORLD
        assert every_rank is not None
        optimizer.take_slices(engine.slices(), every_rank)
    if recipe.training.channels_last and recipe.deepspeed.zero_stage == 0:
        # Only now: DeepSpeed's first broadcast takes weights in plain order; under ZeRO they are parts of one buffer.
        learner.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.training.compile:  # after the weights have got their order, which graphs are made for
        compile_learner(
            learner, _noise(learner, recipe, plan), mode=recipe.training.compile_mode,
            precision=recipe.training.precision,
        )  # fmt: skip
    return engine


def _noise(learner: Learner, recipe: Recipe, plan: Plan) -> tuple[Tensor, ...]:
    """Crops as ``build_views`` makes them, of one forward pass, that show noise."""
    device = next(learner.parameters()).device
    dtype = torch.bfloat16 if recipe.training.precision == "bf16" else torch.float32
    generator = torch.Generator(device).manual_seed(0)
    shapes = [(group.count, plan.micro_batch_size, 3, group.size, group.size) for group in recipe.views.groups]
    return tuple(torch.randn(shape, generator=generator, device=device).to(dtype) for shape in shapes)


def _clip_values(optimizer: torch.optim.Optimizer, limit: float) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_value_(parameters, limit)

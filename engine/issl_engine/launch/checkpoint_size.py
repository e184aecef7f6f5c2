"""How large a recipe's checkpoints will be, computed without memory for its weights."""

import torch

from issl_engine.objectives.base import ObjectiveShape
from issl_engine.recipe.schema import Recipe
from issl_engine.training.learner import Learner
from issl_engine.training.plan import Plan

BYTES_OF_OPTIMISER_STATE = 8
"""Per parameter: two moments in fp32, the most that any of the optimisers keeps."""
MARGIN = 1.05
HEADERS_BYTES = 2**18
"""Names, shapes and manifests: what matters for the smallest encoders alone."""


def checkpoint_bytes(recipe: Recipe, plan: Plan, world_size: int) -> int:
    """Encoder weights, all weights and buffers with the optimiser's state, and each rank's own buffers; in bytes."""
    try:
        with torch.device("meta"):
            learner = _learner(recipe, plan, world_size)
    except RuntimeError:  # some models of timm read values of tensors while they are built
        learner = _learner(recipe, plan, world_size)
    trainable = sum(parameter.numel() for _, parameter in learner.trainable_parameters())
    buffers = sum(buffer.nbytes for buffer in learner.buffers())
    weights = sum(parameter.nbytes for parameter in learner.parameters())
    own = sum(tensor.nbytes for tensor in (*learner.encoder.parameters(), *learner.encoder.buffers()))
    state = weights + buffers + trainable * BYTES_OF_OPTIMISER_STATE
    return HEADERS_BYTES + int(MARGIN * (own + state + world_size * buffers))


def _learner(recipe: Recipe, plan: Plan, world_size: int) -> Learner:
    encoder = recipe.encoder.build(image_size=recipe.views.largest_size)
    shape = ObjectiveShape(
        feature_dim=encoder.dim,
        num_views=recipe.views.num_views,
        num_global_views=recipe.views.num_global_views,
        batch_size=plan.loss_batch_size,
        num_images=plan.num_images,
        world_size=world_size,
    )
    objective = recipe.objective.build(shape, None)
    return Learner(encoder, objective, num_global_views=recipe.views.num_global_views, channels_last=False)

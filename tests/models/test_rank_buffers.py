"""What buffers become on another number of ranks; every buffer of ours says so where it is made."""

import pytest
import torch
from torch import Tensor, nn

import issl_engine.models.encoders as encoders
import issl_engine.objectives as objectives
from issl_engine.models.encoders.base import EncoderConfig
from issl_engine.models.rank_buffers import (
    Averaged,
    BufferMismatchError,
    Identical,
    ImageRows,
    buffer_rules,
    register_rank_buffer,
)
from issl_engine.models.teacher import EmaTeacher
from issl_engine.objectives.base import ObjectiveConfig, ObjectiveShape
from issl_engine.probing.online import OnlineProbe
from issl_engine.variants import variants

GLOBAL_BATCH, PASSES = 8, 3


def shares(global_rows: Tensor, ranks: int) -> list[Tensor]:
    """What each rank's queue holds when images arrive in the order of the global batches; rows [2, 24, P]."""
    size = GLOBAL_BATCH // ranks
    return [
        torch.cat([global_rows[:, p * GLOBAL_BATCH :][:, rank * size : (rank + 1) * size] for p in range(PASSES)], 1)
        for rank in range(ranks)
    ]


@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2), (2, 4), (4, 2), (4, 1)])
def test_a_queue_is_joined_and_cut_in_the_order_of_the_images(before: int, now: int) -> None:
    rows = torch.arange(2 * GLOBAL_BATCH * PASSES * 3.0).reshape(2, -1, 3)
    rule = ImageRows(dim=1, batch_size=GLOBAL_BATCH // now)
    found = [rule.redistributed(shares(rows, before), rank=rank, world_size=now) for rank in range(now)]
    assert all(own.equal(expected) for own, expected in zip(found, shares(rows, now), strict=True))


def test_a_queue_that_does_not_divide_is_refused() -> None:
    with pytest.raises(BufferMismatchError, match="7 rows on each of 2 ranks"):
        ImageRows(dim=0, batch_size=8).redistributed([torch.zeros(7, 2)] * 2, rank=0, world_size=1)


def test_estimates_are_averaged_and_counts_are_kept() -> None:
    means = [torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0])]
    assert Averaged().redistributed(means, rank=0, world_size=1).equal(torch.tensor([2.0, 3.0]))
    counts = [torch.tensor(7), torch.tensor(7)]
    assert Averaged().redistributed(counts, rank=3, world_size=4).equal(torch.tensor(7))


def test_a_buffer_without_a_rule_must_be_alike_on_all_ranks() -> None:
    module = nn.Module()
    module.register_buffer("table", torch.zeros(2))
    ((_, _, rule),) = buffer_rules(module)
    assert rule.redistributed([torch.ones(2), torch.ones(2)], rank=0, world_size=1).equal(torch.ones(2))
    with pytest.raises(BufferMismatchError, match="differs from rank to rank"):
        rule.redistributed([torch.ones(2), torch.zeros(2)], rank=0, world_size=1)


def test_a_copied_module_keeps_its_rules() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    register_rank_buffer(module, "centre", torch.zeros(2), Identical())
    teacher = EmaTeacher(module, nn.Identity())
    rules = {name: rule for name, _, rule in buffer_rules(teacher)}
    assert rules["encoder.centre"] == Identical()
    assert rules["encoder.1.running_mean"] == Averaged()


SMALL = {
    "swav": {"queue_length": 16},
    "dino": {"batch_norm": True, "num_prototypes": 9},
    "barlow_twins": {"hidden_dim": 8, "projection_dim": 8},
    "vicreg": {"hidden_dim": 8, "projection_dim": 8},
}


@pytest.mark.parametrize("name", list(variants(objectives, ObjectiveConfig)))
def test_every_buffer_of_an_objective_has_a_rule(name: str) -> None:
    config = variants(objectives, ObjectiveConfig)[name].model_validate({"name": name} | SMALL.get(name, {}))
    shape = ObjectiveShape(feature_dim=6, num_views=2, num_global_views=2, batch_size=8, num_images=64)
    undeclared = [found for found, _, rule in buffer_rules(config.build(shape, None)) if rule == Identical(False)]
    assert undeclared == []


@pytest.mark.parametrize("name", [name for name in variants(encoders, EncoderConfig) if name != "timm/"])
def test_every_buffer_of_an_encoder_of_ours_has_a_rule(name: str) -> None:
    config = variants(encoders, EncoderConfig)[name].model_validate({"name": name})
    assert [found for found, _, rule in buffer_rules(config.build(image_size=32)) if rule == Identical(False)] == []


def test_the_online_probe_has_estimates_only() -> None:
    assert {rule for _, _, rule in buffer_rules(OnlineProbe(4, 2, lr=0.1))} == {Averaged()}

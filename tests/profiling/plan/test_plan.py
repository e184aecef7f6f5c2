"""issl-engine plan: counts against real tensors, messages and memory against real ranks, and what is said of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch.utils.flop_counter import FlopCounterMode

from issl_engine.cli import main
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.training.learner import encode_views
from issl_profiling.plan.assumptions import Assumptions
from issl_profiling.plan.check import Compared, activations, check_arm, memory_and_traffic, render_check, run_ranks
from issl_profiling.plan.counts import Counts, SavedBytes, count
from issl_profiling.plan.cpu_rank import Order
from issl_profiling.plan.gloo_links import GlooLinks, contention
from issl_profiling.plan.gpu_links import GpuLinks
from issl_profiling.plan.hardware import GPUS
from issl_profiling.plan.messages import EXCHANGED, Message
from issl_profiling.plan.prediction import Planner
from issl_profiling.plan.traffic import Traffic

SMALL = ["source.num_train=64", "source.num_test=12"]
BATCH = 32


def smoke(*overrides: str) -> Recipe:
    return load_recipe("smoke", [*SMALL, *overrides], ["simclr"]).arms["simclr"]


def resnet50(*overrides: str) -> Recipe:
    return next(iter(load_recipe("imagenet/swav_compare", list(overrides), ["simclr"]).arms.values()))


@pytest.fixture(scope="module")
def counts50() -> Counts:
    return count(resnet50())


def test_operations_and_activations_without_memory_are_those_of_real_tensors() -> None:
    recipe = smoke()
    encoder = recipe.encoder.build(image_size=recipe.views.largest_size)
    crops = tuple(torch.randn(group.count, 6, 3, group.size, group.size) for group in recipe.views.groups)
    saved = SavedBytes(encoder)
    with FlopCounterMode(display=False) as counter:
        with saved.counting():
            z_VBD = encode_views(encoder, crops)
        z_VBD.sum().backward()
    counts = count(recipe)
    assert counts.encoder_flops_per_image == counter.get_total_flops() / 6
    assert counts.encoder_saved_bytes_per_image == pytest.approx(saved.total / 6, rel=0.01)


def test_what_autograd_keeps_counts_once_and_weights_do_not() -> None:
    layer, x = torch.nn.Linear(8, 16), torch.randn(4, 8, requires_grad=True)
    saved = SavedBytes(layer)
    with saved.counting():
        layer(x * x)  # the product keeps x as both factors; the layer keeps the product and its weight
    assert saved.total == 4 * (4 * 8 + 4 * 8)


def test_a_resnet_50_has_its_published_size(counts50: Counts) -> None:
    """23.5 M weights without the classifier; 4.09 G multiply-adds a 224 px image (He et al. 2016 round to 3.8)."""
    assert counts50.encoder_parameters == 23_508_032
    forward = 2 * 2 * 4.09e9  # two views
    assert counts50.encoder_flops_per_image == pytest.approx(3 * forward, rel=0.03)


def test_pairs_of_images_are_distinguished_from_single_ones() -> None:
    """Twice as many images make twice the heads' work and four times the contrast's."""
    contrastive, alone = count(smoke()), count(smoke("arms.simclr.objective={name: simsiam, hidden_dim: 32}"))
    assert contrastive.objective_flops_per_pair > 0
    assert alone.objective_flops_per_pair == 0


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather() -> None:
    links = GpuLinks(gpu=GPUS["h100"], assumed=Assumptions())
    size = 1e9
    for ranks in (8, 64):
        whole = links.seconds(Message(part="gradients", kind="all_reduce", payload_bytes=size), ranks)
        cut = links.seconds(Message(part="gradients", kind="reduce_scatter", payload_bytes=size), ranks)
        collected = links.seconds(Message(part="gradients", kind="all_gather", payload_bytes=size / ranks), ranks)
        assert cut + collected == pytest.approx(whole, rel=1e-6)
    inside = links.seconds(Message(part="gradients", kind="all_reduce", payload_bytes=size), 8)
    assert inside == pytest.approx(2 * (7 / 8 * size / (0.8 * 450e9) + 7 * 5e-6))


def test_two_ranks_time_is_what_gloo_was_measured_at() -> None:
    links = GlooLinks(latency_s=0.001, bytes_per_second=1e9)
    assert links.seconds(Message(part="gradients", kind="all_reduce", payload_bytes=1e9, count=2), 2) == pytest.approx(
        2 * 1.001
    )


def test_a_gathered_loss_that_does_not_fit_takes_the_ring() -> None:
    recipe = resnet50("objective.projection_dim=8192")
    planner = Planner(recipe, count(recipe), GPUS["h100"], Assumptions(), num_classes=1000)
    assert not planner.predict(4096, 2**19, 0, "gather").fits
    assert planner.best(4096, 2**19).exchange == "ring"
    assert planner.best(8, 1024).exchange == "gather"


def test_zero_pays_where_it_saves_memory(counts50: Counts) -> None:
    recipe = resnet50("optimizer={name: adamw, lr: 1e-3}")
    planner = Planner(recipe, counts50, GPUS["h100"], Assumptions(), num_classes=1000)
    kept = [planner.predict(8, 8, zero, "gather").memory.total for zero in (0, 1, 2)]
    assert kept[0] > kept[1] > kept[2]
    assert planner.best(8, 8).zero_stage == 2
    assert planner.best(8, 2560).zero_stage == 0  # activations outweigh what it saves


def test_scaling_falls_and_a_faster_network_helps(counts50: Counts) -> None:
    recipe = resnet50()
    slow = Planner(recipe, counts50, GPUS["h100"], Assumptions(network_gbit=50), num_classes=1000)
    fast = Planner(recipe, counts50, GPUS["h100"], Assumptions(), num_classes=1000)
    assert slow.best(8, 2560).images_per_second == fast.best(8, 2560).images_per_second
    assert slow.best(64, 2560).images_per_second < fast.best(64, 2560).images_per_second
    assert fast.best(8, 2560).efficiency > fast.best(64, 2560).efficiency


@pytest.fixture(scope="module")
def two_ranks() -> list[Compared]:
    """All ZeRO stages on two real ranks."""
    order = Order(recipe="smoke", overrides=SMALL, arm="simclr", steps=1, batches=[BATCH], zero_stages=[0, 1, 2])
    found = run_ranks(2, order)
    assert found.links is not None
    assert found.links.latency_s > 0
    recipe = smoke()
    counts = count(recipe)
    return [activations(counts, BATCH, 2, found), *memory_and_traffic(recipe, counts, 2, 10, found)]


def test_messages_and_optimiser_of_real_ranks_are_predicted_to_the_byte(two_ranks: list[Compared]) -> None:
    exact = [one for one in two_ranks if one.what != "activations"]
    assert len(exact) >= 6
    assert [one.predicted for one in exact] == [one.measured for one in exact]
    assert all(one.measured > 0 for one in exact)


def test_activations_of_real_ranks_are_predicted(two_ranks: list[Compared]) -> None:
    (kept,) = [one for one in two_ranks if one.what == "activations"]
    assert kept.ratio == pytest.approx(1, abs=0.05)


def test_messages_are_known_of_objectives_that_there_are() -> None:
    from issl_engine import objectives
    from issl_engine.objectives.base import ObjectiveConfig
    from issl_engine.variants import variants

    assert len(EXCHANGED) >= 9
    assert set(EXCHANGED) <= set(variants(objectives, ObjectiveConfig))


def test_calls_are_counted_and_put_back() -> None:
    import torch.distributed as dist

    from issl_engine.ranks import start_ranks

    start_ranks()
    real, traffic = dist.all_reduce, Traffic()
    with traffic.counting():
        dist.all_reduce(torch.ones(3))
        dist.all_gather([torch.empty(5)], torch.ones(5))
    assert traffic.bytes_of == {"all_reduce": 12, "all_gather": 20}
    assert dist.all_reduce is real


def test_ranks_beyond_the_cores_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    assert [contention(ranks) for ranks in (1, 2, 4)] == [1, 1, 2]


def test_the_table_of_the_check_says_how_close_it_is() -> None:
    one = Compared(what="step", ranks=2, unit="ms", predicted=90.0, measured=100.0)
    assert "0.900" in render_check("simclr", [one])
    assert replace(one, predicted=0.0, measured=0.0).ratio == 1


def test_a_rank_that_fails_is_named_with_its_reason() -> None:
    order = Order(recipe="smoke", overrides=SMALL, arm="swav", steps=1, batches=[BATCH], zero_stages=[0])
    with pytest.raises(ValueError, match=r"--check: rank 0 failed: .*no arm 'swav'"):
        run_ranks(1, order)


def test_a_step_that_is_not_in_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="exact_accumulation embeds each image twice"):
        count(smoke("training.exact_accumulation=true"))


@pytest.mark.long
def test_the_whole_check_counts_to_the_byte_on_two_and_four_ranks() -> None:
    result = plan("smoke", *SMALL, "--arm", "simclr", "--check", "--steps", "2", "--json")
    assert result.exit_code == 0, result.output
    compared = [Compared(**one) for one in json.loads(result.stdout)["compared"]]
    assert {one.ranks for one in compared if one.what == "step"} == {1, 2, 4}
    exact = [one for one in compared if one.what not in ("step", "activations")]
    assert len(exact) >= 12
    assert [one.predicted for one in exact] == [one.measured for one in exact]


def test_a_batch_that_four_ranks_cannot_share_is_refused() -> None:
    recipe = smoke("training.global_batch_size=6")
    with pytest.raises(ValueError, match="multiple of 4"):
        check_arm("smoke", (), "simclr", recipe, steps=1)


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments])


def test_the_command_says_what_is_left_out_and_that_nothing_was_measured(tmp_path: Path) -> None:
    arguments = [
        "imagenet/swav_compare", "--arm", "simclr", "--gpus", "8,4096", "--price", "2.5",
        f"source.folder={tmp_path}/none",
        "encoder={name: small_resnet, dim: 16}",
    ]  # fmt: skip
    result = plan(*arguments)
    assert result.exit_code == 0, result.output
    assert "4096 GPUs are left out: the batch of 2560 images cannot be divided by 4096 GPUs" in result.stdout
    assert "A model, not a measurement" in result.stdout
    assert "mfu 0.1" in result.stdout
    assert "say --images NUMBER" in result.stdout
    result = plan(*arguments, "--images", "1281167", "--json")
    found = json.loads(result.stdout)
    (line,) = found["arms"][0]["lines"]
    assert line["cost"] == pytest.approx(2.5 * line["gpu_hours"])
    assert line["kwh"] == pytest.approx(0.7 * line["gpu_hours"])
    assert line["days"] * 24 * 8 == pytest.approx(line["gpu_hours"])
    assert found["measured"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "tpu"], "--gpu tpu: no data sheet of it is known here; choose one of h100, h200"),
        (["--gpus", "8,many"], "--gpus is '8,many'; it must be whole numbers above 0"),
        (["--gpus", "0"], "--gpus is '0'; it must be whole numbers above 0"),
        (["--mfu", "2"], "--mfu is 2; it must be above 0 and at most 1"),
        (["--overlap", "-1"], "--overlap is -1; it must be from 0 to 1"),
        (["--network", "0"], "--network is 0; it must be above 0 Gbit/s"),
        (["--arm", "swav"], "no arm 'swav'"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], message: str) -> None:
    result = plan("smoke", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output

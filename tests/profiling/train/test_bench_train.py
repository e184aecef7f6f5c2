"""issl-engine bench train: what is timed, that the plain trainer computes what ours does, and what is said of it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from issl_engine.cli import main
from issl_engine.ranks import start_ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.run.dataset import load_dataset
from issl_engine.training.build import build_learner
from issl_profiling.process_memory import PeakMemory
from issl_profiling.train import rounds as measuring
from issl_profiling.train.candidate import CACHED, ENCODER, HEADS, LOADER, PLAIN, WHOLE, Candidate, Shares
from issl_profiling.train.case import TrainCase
from issl_profiling.train.lightly_trainer import lightly_candidate
from issl_profiling.train.our_parts import our_candidates
from issl_profiling.train.our_training import cached_batches
from issl_profiling.train.plain import PlainTraining, plain_candidate
from issl_profiling.train.ratios import ratios
from issl_profiling.train.rounds import Rounds, measure
from issl_profiling.train.table import COLUMNS

CPU = torch.device("cpu")
SMALL = ["source.num_train=48", "source.num_test=12", "training.global_batch_size=8"]
OBJECTIVES = {
    "simclr": "{name: simclr, hidden_dim: 16}",
    "swav": "{name: swav, num_prototypes: 12, hidden_dim: 16}",
    "dissl": "{name: dissl, num_classes: 16, hidden_dim: 16, bottleneck_dim: 8}",
    "dino": "{name: dino, num_prototypes: 16, hidden_dim: 16}",
}


def case_of(*overrides: str) -> TrainCase:
    recipe = load_recipe("smoke", [*SMALL, *overrides], ["simclr"]).arms["simclr"]
    return TrainCase.of("simclr", recipe, load_dataset(recipe), start_ranks())


@pytest.fixture
def smoke() -> TrainCase:
    return case_of()


def never() -> PlainTraining:
    raise AssertionError("only its values are looked at")


def found(name: str, *seconds: float) -> Rounds:
    candidate = Candidate(kind="part", name=name, start=never, warmup_steps=0, flops=None)
    return Rounds(candidate=candidate, seconds_per_step=list(seconds))


def test_warm_up_is_not_timed_and_each_candidate_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, steps, closed = [0.0], [0], [0]

    class Slow:
        def step(self) -> None:
            steps[0] += 1
            now[0] += 100.0 if steps[0] % 5 in (1, 2) else 0.5

        def start_of_timing(self) -> None:
            assert steps[0] % 5 == 2

        def shares(self) -> Shares:
            return Shares(data=0.25, device=0.5, host=0.25)

        def close(self) -> None:
            closed[0] += 1

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    slow = Candidate(kind="part", name="slow", start=Slow, warmup_steps=2, flops=None)
    (rounds,) = measure([slow], rounds=3, steps=3, device=CPU, on_round=lambda number, one: None)
    assert rounds.seconds_per_step == [0.5] * 3
    assert len(rounds.shares) == closed[0] == 3


def test_ratios_are_taken_round_by_round_and_targets_only_held_where_they_apply(smoke: TrainCase) -> None:
    rounds = [
        found(WHOLE, 1.0, 10.0, 1.0), found(CACHED, 0.9, 9.0, 0.9), found(HEADS, 0.09, 0.9, 0.09),
        found(ENCODER, 0.8, 8.0, 0.8), found(PLAIN, 2.0, 20.0, 2.0),
    ]  # fmt: skip
    whole_cached, heads, encoder, plain = ratios(smoke, rounds)
    assert whole_cached.value == pytest.approx(0.9)
    assert whole_cached.verdict == "target >= 0.95: missed"
    assert heads.value == pytest.approx(0.1)
    assert heads.verdict == "target <= 0.05 does not apply here: it is for encoder resnet50"
    assert encoder.verdict == "target >= 0.9 does not apply here: it is for an H200"
    assert plain.value == pytest.approx(2.0)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_the_plain_trainer_has_our_weights_and_our_loss(objective: str) -> None:
    case = case_of(f"arms.simclr.objective={OBJECTIVES[objective]}")
    (batch,) = cached_batches(case)
    learner = build_learner(case.recipe, case.plan, case.ranks, case.seed).train()
    expected = learner(batch, case.progress).loss
    expected.backward()
    plain = PlainTraining(case)
    views = [view for crops in batch.crops for view in crops]
    loss = plain._loss(views)
    loss.backward()
    plain.close()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    gradients = dict(plain.model.named_parameters())
    for name, parameter in learner.trainable_parameters():
        assert (parameter.grad is None) == (gradients[name].grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_step_of_the_plain_trainer_moves_its_weights(smoke: TrainCase) -> None:
    plain = PlainTraining(smoke)
    before = [parameter.clone() for parameter in plain.model.parameters()]
    plain.start_of_timing()
    plain.step()
    shares = plain.shares()
    plain.close()
    assert any(not torch.equal(a, b) for a, b in zip(before, plain.model.parameters(), strict=True))
    assert shares.data + shares.device + shares.host == pytest.approx(1, abs=0.01)


def test_the_parts_operations_make_up_the_step_s(smoke: TrainCase) -> None:
    candidates, flops = our_candidates(smoke)
    assert flops.encoder + flops.objective == flops.learner
    assert [one.name for one in candidates] == [WHOLE, CACHED, LOADER, ENCODER, HEADS]
    assert candidates[0].warmup_steps > smoke.recipe.data.prefetch_batches


def test_what_other_trainers_cannot_do_is_said(smoke: TrainCase) -> None:
    noisy = case_of("views.augmentation.gaussian_noise={}")
    left_out = plain_candidate(noisy, our_candidates(smoke)[1])
    assert "gaussian_noise has no counterpart" in getattr(left_out, "reason", "")
    assert getattr(lightly_candidate(case_of()), "reason", "")  # not installed, or two views only


def test_lightly_trains_where_it_is_installed() -> None:
    pytest.importorskip("lightly", reason="lightly is not installed (issl-engine[peers])")
    candidate = lightly_candidate(case_of(f"arms.simclr.objective={OBJECTIVES['swav']}"))
    assert isinstance(candidate, Candidate)
    work = candidate.start()
    work.step()
    work.close()


def test_peak_memory_is_what_was_resident_at_most() -> None:
    memory = PeakMemory(CPU)
    memory.reset()
    numbers = torch.ones(2**24)
    del numbers
    assert 60 < memory.peak_mib() < 90
    memory.reset()
    assert memory.peak_mib() < 20


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "train", *arguments])


def test_the_command_measures_an_arm_and_keeps_its_lines(tmp_path: Path) -> None:
    out = tmp_path / "train.csv"
    arguments = ["smoke", *SMALL, "--arm", "simclr", "--rounds", "1", "--steps", "1", "--out", str(out)]
    result = bench(*arguments, "--json")
    assert result.exit_code == 0, result.output
    reported = json.loads(result.stdout)
    with out.open(newline="") as file:
        kept = {line["name"]: line for line in csv.DictReader(file)}
    assert tuple(next(iter(kept.values()))) == COLUMNS
    assert list(kept) == [WHOLE, CACHED, LOADER, ENCODER, HEADS, PLAIN]
    assert {one["name"] for one in reported["arms"]["simclr"]["left_out"]} >= {"solo-learn"}
    for line in kept.values():
        assert float(line["views_per_second"]) == pytest.approx(3 * float(line["images_per_second"]), rel=1e-3)
        assert line["commit"]
        assert line["command"]
        assert line["date"]
    whole = kept[WHOLE]
    assert float(whole["tflops"]) == pytest.approx(
        float(whole["gflop_per_step"]) / float(whole["ms_per_step"]), rel=1e-2
    )
    assert sum(float(whole[f"{share}_fraction"]) for share in ("data", "device", "host")) == pytest.approx(1, abs=0.05)


def write_other_table(folder: Path) -> list[str]:
    (folder / "mine.csv").write_text("a,b\n1,2\n")
    return ["smoke", "--out", str(folder / "mine.csv")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda folder: ["--out", "nowhere/x.csv"], "there is no folder nowhere"),
        (lambda folder: ["smoke", "--arm", "swav"], "no arm 'swav'"),
        (lambda folder: ["smoke", *SMALL, "training.global_batch_size=4000"], "larger than the training split"),
        (write_other_table, "holds something else than bench train's lines"),
    ],
)
def test_mistakes_are_one_sentence(arguments: Callable[[Path], list[str]], message: str, tmp_path: Path) -> None:
    result = bench(*arguments(tmp_path))
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.gpu
def test_on_a_gpu_memory_is_what_was_allocated_there(tmp_path: Path) -> None:
    out = tmp_path / "train.csv"
    result = bench("smoke", *SMALL, "--arm", "simclr", "--rounds", "1", "--steps", "2", "--out", str(out), "--json")
    assert result.exit_code == 0, result.output
    for line in json.loads(result.stdout)["lines"]:
        assert line["peak_mib"] > 0

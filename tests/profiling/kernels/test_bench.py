"""issl-engine bench: from options to tables, files and pictures."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from issl_engine.cli import main
from issl_kernels.case import Case
from issl_kernels.distillation import cases as distillation_cases
from issl_kernels.distillation.cases import DistillationCase
from issl_kernels.sinkhorn import cases as sinkhorn_cases
from issl_kernels.sinkhorn.cases import SinkhornCase
from issl_kernels.soft_cross_entropy import cases as soft_cases
from issl_kernels.soft_cross_entropy.cases import SoftCrossEntropyCase
from issl_profiling.kernels import bench as bench_module
from issl_profiling.kernels.ceilings import Ceilings
from issl_profiling.kernels.kernels_csv import read_rows
from issl_profiling.kernels.operations import Operation, discover_operations, size_number, size_text
from issl_profiling.kernels.passes import Tensors
from issl_profiling.kernels.provider import LeftOut, Provider


@pytest.fixture(autouse=True)
def small_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sinkhorn_cases, "CPU_BENCH_CASES", (SinkhornCase(name="tiny", N=8, K=6), SinkhornCase(name="wee", N=4, K=3))
    )
    soft = SoftCrossEntropyCase(name="soft", V=3, G=2, B=4, C=5, temperature=0.1)
    monkeypatch.setattr(soft_cases, "CPU_BENCH_CASES", (soft,))
    monkeypatch.setattr(distillation_cases, "CPU_BENCH_CASES", (DistillationCase(name="dissl", V=3, G=2, B=4, C=5),))
    monkeypatch.setattr(bench_module, "measure_ceilings", lambda dtype, device: Ceilings(1e11, 1e10, 1e9))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--quiet", "bench", *arguments])


def test_every_folder_with_sizes_is_an_operation() -> None:
    operations = discover_operations()
    assert {"info_nce", "sinkhorn", "soft_cross_entropy", "distillation", "cross_correlation"} <= operations.keys()
    for name, operation in operations.items():
        assert operation.function.__name__ == name
        assert operation.cpu_cases
        assert all(size_number(size_text(case)) > 1 for case in operation.cases)


def test_one_operation_one_size(tmp_path: Path) -> None:
    out = tmp_path / "kernels.csv"
    result = call("kernels", "--op", "sinkhorn", "--sizes", "tiny", "--repeats", "2", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "sinkhorn tiny (N=8 K=6, fp32)" in result.stdout
    assert "no NVIDIA GPU here" in result.stdout
    rows = read_rows(out)
    assert [(row.case, row.pass_, row.provider) for row in rows] == [("tiny", "fwd", "ours"), ("tiny", "fwd", "eager")]
    ours = rows[0]
    assert ours.floor_ms == pytest.approx(1000 * max(8 * 6 * (4 * 4 + 4) / 1e10, 8 * 6 * 4 / 1e9), rel=1e-4)
    assert ours.ratio_to_floor == pytest.approx(ours.median_ms / ours.floor_ms, rel=1e-4)
    assert ours.peak_mib is not None
    assert ours.peak_mib >= 8 * 6 * 4 / 2**20
    assert ours.command.startswith("issl-engine")


def test_the_table_has_every_provider_and_pass_and_says_who_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "kernels.csv"
    chosen = ["--provider", "ours", "--provider", "eager", "--provider", "chunked", "--provider", "liger-jsd"]
    result = call(
        "kernels", "--op", "soft_cross_entropy", "--op", "distillation", *chosen, "--repeats", "1", "--out", str(out)
    )
    assert result.exit_code == 0, result.output
    for provider in ("ours", "eager", "chunked"):
        assert result.stdout.count(f"│ {provider} ") == 2
    for name in ("fwd", "bwd", "both"):
        assert result.stdout.count(f" {name} ") >= 6
    assert "left out: liger-jsd on soft_cross_entropy soft: needs an NVIDIA GPU" in result.stdout
    assert "differs" not in result.stdout
    rows = read_rows(out)
    assert len(rows) == 2 * 3 * 3
    floors = {row.pass_: row.floor_ms or 0 for row in rows if row.op == "distillation"}
    assert floors["both"] == pytest.approx(floors["fwd"] + floors["bwd"], rel=1e-4)


def _soft_with(name: str, spoil: Callable[[Tensor], Tensor], *, other_library: bool) -> Callable[..., object]:
    """A stand-in for make_providers: ours, and ours with its result spoilt."""

    def make(operation: Operation, case: Case, names: object, device: object) -> tuple[list[Provider], list[LeftOut]]:
        def ours(inputs: Tensors) -> Tensor:
            return case.call(operation.function, *inputs)

        spoilt = Provider(
            name=name, call=lambda inputs: spoil(ours(inputs)), differentiable_inputs=1, other_library=other_library
        )
        return [Provider(name="ours", call=ours, differentiable_inputs=1), spoilt], []

    return make


def _detached_in_training(loss: Tensor) -> Tensor:
    return loss.detach()


def test_a_wrong_value_is_reported_in_the_table_and_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "make_providers", _soft_with("peer", lambda x: 2 * x, other_library=True))
    out = tmp_path / "kernels.csv"
    result = call("kernels", "--op", "soft_cross_entropy", "--repeats", "1", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "peer (differs)" in result.stdout
    assert {row.provider for row in read_rows(out)} == {"ours", "peer (differs)"}


def test_a_peer_that_fails_in_one_pass_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "make_providers", _soft_with("peer", _detached_in_training, other_library=True))
    out = tmp_path / "kernels.csv"
    result = call("kernels", "--op", "soft_cross_entropy", "--repeats", "1", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert [row.pass_ for row in read_rows(out) if row.provider == "peer"] == ["fwd"]
    assert "left out: peer on soft_cross_entropy soft: bwd: RuntimeError" in result.stdout


def test_a_defect_of_our_own_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "make_providers", _soft_with("ours2", _detached_in_training, other_library=False))
    result = call("kernels", "--op", "soft_cross_entropy", "--repeats", "1", "--out", str(tmp_path / "kernels.csv"))
    assert isinstance(result.exception, RuntimeError)


def test_dtypes_json_and_rows_added_to_those_before(tmp_path: Path) -> None:
    out = tmp_path / "kernels.csv"
    arguments = ("kernels", "--op", "sinkhorn", "--sizes", "wee", "--repeats", "1", "--out", str(out), "--json")
    assert call(*arguments).exit_code == 0
    result = call(*arguments, "--dtype", "bf16", "--dtype", "fp32")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [row["dtype"] for row in record["rows"]] == ["bf16", "bf16", "fp32", "fp32"]
    assert record["ceilings"]["bf16"]["bytes_per_second"] == 1e10
    assert [values["values"] for values in record["values"]] == [{"eager": "agrees"}] * 2
    assert len(read_rows(out)) == 6


def test_the_file_lies_with_the_results_where_there_is_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("kernels", "--op", "sinkhorn", "--sizes", "wee", "--repeats", "1")
    assert call(*arguments).exit_code == 0
    assert (tmp_path / "kernels.csv").is_file()
    (tmp_path / "profiling" / "results").mkdir(parents=True)
    assert call(*arguments).exit_code == 0
    assert (tmp_path / "profiling" / "results" / "kernels.csv").is_file()


def test_the_list_names_operations_sizes_and_providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("kernels", "--list")
    assert result.exit_code == 0, result.output
    assert "  tiny: N=8 K=6 (CPU)" in result.stdout.splitlines()
    assert "  8192_3000: N=8192 K=3000 (GPU)" in result.stdout.splitlines()
    assert {"  ours*", "  compile", "  lightly-ntxent*", "  inf-cl*"} <= set(result.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []
    assert "sinkhorn" in json.loads(call("kernels", "--list", "--json").stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--op", "softmax"], "there is no operation 'softmax'; choose from cross_correlation, distillation"),
        (["--op", "sinkhorn", "--sizes", "big"], "there is no size 'big'; choose from 8192_3000, tiny, wee"),
        (["--provider", "magic"], "there is no provider 'magic'; choose from ours, ours-in-place, eager, compile"),
        (["--op", "sinkhorn", "--provider", "inf-cl"], "nothing was timed: no provider"),
        (["--op", "soft_cross_entropy", "--provider", "liger-jsd"], "needs an NVIDIA GPU"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("kernels", *arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_a_foreign_file_is_refused_before_anything_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "kernels.csv"
    out.write_text("a,b\n")
    monkeypatch.setattr(bench_module, "measure_ceilings", None)
    result = call("kernels", "--out", str(out))
    assert result.exit_code == 1
    assert "has the columns a, b" in result.stderr


def test_plots_of_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "kernels.csv"
    assert call("kernels", "--op", "sinkhorn", "--repeats", "1", "--out", str(out)).exit_code == 0
    result = call("plot", "--results", str(out), "--out", str(tmp_path / "plots"))
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "plots" / "sinkhorn.png")]
    assert (tmp_path / "plots" / "sinkhorn.png").is_file()
    missing = call("plot", "--results", str(tmp_path / "none.csv"))
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no file" in missing.stderr

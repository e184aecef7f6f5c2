"""Times chosen cases of chosen operations by all providers, and compares their values."""

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from issl_engine.environment import collect_environment, device_summary
from issl_engine.mistakes import Mistake
from issl_kernels.case import Case, Work
from issl_profiling.kernels.allocated_memory import peak_bytes
from issl_profiling.kernels.ceilings import Ceilings, floor, measure_ceilings
from issl_profiling.kernels.choose_providers import make_providers
from issl_profiling.kernels.compare_values import DIFFERS, OTHER_LOSS, compare_values
from issl_profiling.kernels.kernels_csv import PassTime
from issl_profiling.kernels.operations import Operation, size_text
from issl_profiling.kernels.passes import PASSES, Stage, Tensors, input_copies, make_stages, time_in_turns
from issl_profiling.kernels.provider import LeftOut, Provider, first_line, may_fail
from issl_profiling.timing import Spread

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
GPU_DTYPE, CPU_DTYPE = "bf16", "fp32"
GPU_REPEATS, CPU_REPEATS = 50, 7

_log = logging.getLogger("issl_engine.profiling")


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """A case in one dtype: a time for each provider and pass, and provider → whether its value is ours."""

    op: str
    case: str
    size: str
    dtype: str
    times: list[PassTime]
    values: dict[str, str]


@dataclass(kw_only=True)
class Bench:
    """All that one call measured."""

    device: str
    gpu: bool
    ceilings: dict[str, Ceilings] = field(default_factory=dict)
    results: list[CaseResult] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What all cases of one dtype share."""

    dtype: str
    repeats: int
    device: torch.device
    ceilings: Ceilings


class _Ready(NamedTuple):
    stage: Stage
    peak: int | None
    """Bytes."""


def default_device() -> torch.device:
    """The first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run_bench(
    cases: Sequence[tuple[Operation, Case]],
    *,
    dtypes: Sequence[str],
    providers: Sequence[str],
    repeats: int | None,
    device: torch.device,
    on_result: Callable[[CaseResult], None] = lambda result: None,
) -> Bench:
    """Times every case in every dtype; ``on_result`` gets each as soon as it is there.

    Without dtypes or repeats, those that suit the device. Raises Mistake if nothing could be timed.
    """
    gpu = device.type == "cuda"
    bench = Bench(device=device_summary(collect_environment()), gpu=gpu)
    repeats = repeats or (GPU_REPEATS if gpu else CPU_REPEATS)
    for dtype in dtypes or [GPU_DTYPE if gpu else CPU_DTYPE]:
        ceilings = bench.ceilings[dtype] = measure_ceilings(DTYPES[dtype], device)
        run = _Run(dtype=dtype, repeats=repeats, device=device, ceilings=ceilings)
        for operation, case in cases:
            _log.info("timing %s %s in %s", operation.name, case.name, dtype)
            torch.compiler.reset()  # what was compiled for the last case counts towards a limit
            made, left_out = make_providers(operation, case, providers, device)
            bench.left_out += left_out
            result = _run_case(operation, case, made, run, bench)
            if result.times:
                bench.results.append(result)
                on_result(result)
            _free(device)
    if not bench.results:
        reasons = "; ".join(str(left_out) for left_out in bench.left_out)
        raise Mistake(f"nothing was timed: {reasons or 'no provider that was asked for computes these operations'}")
    return bench


def _run_case(operation: Operation, case: Case, providers: Sequence[Provider], run: _Run, bench: Bench) -> CaseResult:
    values = compare_values(operation, case, providers, run.device)
    _free(run.device)
    copies = input_copies(case.inputs(DTYPES[run.dtype], run.device))
    ready: dict[str, dict[str, _Ready]] = {}
    for provider in providers:
        passes, failure = _get_ready(provider, copies, run.device)
        if failure is not None:
            bench.left_out.append(LeftOut(op=operation.name, case=case.name, provider=provider.name, reason=failure))
            _free(run.device)
        ready[_label(provider.name, values)] = passes
    spreads = {
        name: time_in_turns(
            {label: passes[name].stage for label, passes in ready.items() if name in passes}, run.repeats, run.device
        )
        for name in PASSES
    }
    times = [
        _time_of(operation, case, (label, name), spreads[name][label], peak, run)
        for label, passes in ready.items()
        for name, (_, peak) in passes.items()
    ]
    return CaseResult(
        op=operation.name,
        case=case.name,
        size=size_text(case),
        dtype=run.dtype,
        times=times,
        values={_label(name, values): value for name, value in values.items()},
    )


def _label(name: str, values: Mapping[str, str]) -> str:
    """The provider's name; where it computes something else the name says so, as the file has no column for it."""
    value = values.get(name)
    return f"{name} ({value})" if value in (DIFFERS, OTHER_LOSS) else name


def _get_ready(provider: Provider, copies: list[Tensors], device: torch.device) -> tuple[dict[str, _Ready], str | None]:
    """Pass → what is to be timed, warm; and why the rest is missing. A pass that fails takes those after it along."""
    ready: dict[str, _Ready] = {}
    try:
        prepared = [provider.prepare(inputs) for inputs in copies]
        for name, stage in make_stages(provider.call, prepared, provider.differentiable_inputs).items():
            ready[name] = _Ready(stage, _warm_up(stage, provider, device))
    except Exception as error:
        if not may_fail(provider, error):
            raise
        return ready, f"{PASSES[len(ready)]}: {first_line(error)}"
    return ready, None


def _warm_up(stage: Stage, provider: Provider, device: torch.device) -> int | None:
    """Peak bytes; the first call compiles and tunes, and its memory is not the operation's."""
    stage.run(stage.prepare(0))
    if provider.compiled and device.type != "cuda":
        return None
    return peak_bytes(lambda: stage.prepare(0), stage.run, device)


def _time_of(
    operation: Operation, case: Case, key: tuple[str, str], spread: Spread, peak: int | None, run: _Run
) -> PassTime:  # fmt: skip
    provider, name = key
    works = _works(case, name, DTYPES[run.dtype].itemsize)
    floor_ms = 1000 * sum(floor(work, run.ceilings) for work in works)
    seconds = spread.median / 1000
    return PassTime(
        op=operation.name, case=case.name, size=size_text(case), dtype=run.dtype, pass_=name, provider=provider,
        median_ms=spread.median, p20_ms=spread.p20, p80_ms=spread.p80,
        peak_mib=None if peak is None else peak / 2**20,
        tflops=sum(work.flops for work in works) / seconds / 1e12,
        gb_s=sum(work.bytes for work in works) / seconds / 1e9,
        floor_ms=floor_ms, ratio_to_floor=spread.median / floor_ms,
    )  # fmt: skip


def _works(case: Case, name: str, element_bytes: int) -> list[Work]:
    forward, backward = case.forward_work(element_bytes), case.backward_work(element_bytes)
    return {"fwd": [forward], "bwd": [backward], "both": [forward, backward]}[name]


def _free(device: torch.device) -> None:
    """Gives back what a failed call or a finished case held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

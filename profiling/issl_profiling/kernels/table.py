"""The measurements on the terminal: a table per case, then what did not run and why."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from issl_profiling.kernels.bench import Bench, CaseResult
from issl_profiling.kernels.ceilings import Ceilings
from issl_profiling.kernels.operations import Operation, size_text
from issl_profiling.kernels.own_providers import EAGER, OWN_PROVIDERS
from issl_profiling.kernels.peer_providers import PEERS

WIDTH = 120
"""Where the terminal's own is unknown, as in a pipe."""
NO_GPU = (
    "no NVIDIA GPU here: GPU sizes and Triton kernels stay unmeasured; torch.compile runs only if --provider names it"
)


def print_bench(bench: Bench, console: Console | None = None) -> None:
    """Prints all cases to stdout, then what was left out."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for result in bench.results:
        console.print(case_table(result))
    console.print(f"on {bench.device}", highlight=False, soft_wrap=True)
    for dtype, ceilings in bench.ceilings.items():
        console.print(f"ceilings with {dtype}: {ceilings_text(ceilings)}", highlight=False, soft_wrap=True)
    for left_out in bench.left_out:
        console.print(f"left out: {left_out}", highlight=False, markup=False, soft_wrap=True)
    if not bench.gpu:
        console.print(NO_GPU, highlight=False, soft_wrap=True)


def listing(operations: Sequence[Operation], providers: Sequence[str]) -> dict[str, list[str]]:
    """Heading → entries: the cases of each operation, and who computes it (``*``: unless --provider says otherwise)."""
    listed = {}
    for operation in operations:
        cases = [f"{case.name}: {size_text(case)} (GPU)" for case in operation.gpu_cases]
        cases += [f"{case.name}: {size_text(case)} (CPU)" for case in operation.cpu_cases]
        listed[operation.name] = cases
        known = [*OWN_PROVIDERS, *(peer.name for peer in PEERS if peer.operation == operation.name)]
        marked = [f"{name}*" if name in providers else name for name in known]
        listed[f"{operation.name}, providers (* runs here)"] = marked
    return listed


def case_table(result: CaseResult) -> Table:
    """Provider × pass."""
    table = Table(title=f"{result.op} {result.case} ({result.size}, {result.dtype})", title_justify="left")
    table.add_column("provider")
    table.add_column("pass")
    for title in ("median ms", "p20", "p80", "peak MiB", "TFLOP/s", "GB/s", "x floor", "eager / it"):
        table.add_column(title, justify="right")
    table.add_column("value")
    eager = {time.pass_: time.median_ms for time in result.times if time.provider == EAGER}
    for index, time in enumerate(result.times):
        last = index + 1 == len(result.times) or result.times[index + 1].provider != time.provider
        table.add_row(
            time.provider if index == 0 or result.times[index - 1].provider != time.provider else "",
            time.pass_,
            _digits(time.median_ms),
            _digits(time.p20_ms),
            _digits(time.p80_ms),
            _digits(time.peak_mib),
            _digits(time.tflops or None),
            _digits(time.gb_s),
            _digits(time.ratio_to_floor),
            _digits(eager[time.pass_] / time.median_ms if time.pass_ in eager else None),
            result.values.get(time.provider, "–"),
            end_section=last,
        )
    return table


def ceilings_text(ceilings: Ceilings) -> str:
    """``790 TFLOP/s, 4300 GB/s, 4.1e+12 exponentials/s``."""
    return (
        f"{_digits(ceilings.flops_per_second / 1e12)} TFLOP/s, {_digits(ceilings.bytes_per_second / 1e9)} GB/s copied, "
        f"{ceilings.exponentials_per_second:.2g} exponentials/s"
    )


def _digits(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

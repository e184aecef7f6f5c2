"""issl-engine bench kernels, resources, plot: times of the kernels' operations, what they take of a GPU, pictures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.results_option import default_results, results_option


@click.command("kernels")
@click.option("--op", "ops", multiple=True, metavar="NAME", help="Operation; may be repeated; default all.")
@click.option("--sizes", multiple=True, metavar="NAME", help="Case, as --list names it; may be repeated.")
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(["bf16", "fp16", "fp32"]),
    help="Of the inputs; may be repeated; default bf16 on a GPU, fp32 on a CPU.",
)  # fmt: skip
@click.option(
    "--provider", "providers", multiple=True, metavar="NAME", help="What computes, as --list names it; may be repeated."
)
@click.option(
    "--repeats", type=click.IntRange(1), help="Rounds of all providers in turn; default 50 on a GPU, 7 on a CPU."
)
@results_option("kernels.csv")
@click.option("--list", "only_list", is_flag=True, help="Print operations, cases and providers; time nothing.")
@json_option
def bench_kernels(
    ops: tuple[str, ...], sizes: tuple[str, ...], dtypes: tuple[str, ...], providers: tuple[str, ...],
    repeats: int | None, out: Path, only_list: bool, as_json: bool,
) -> None:  # fmt: skip
    """Time the kernels' operations: forward, backward and both; print tables and add the lines to a CSV file.

    Providers take turns in every round. The floor is what the device's matrix products, copies and exponentials,
    measured in the same run, allow.

    \b
    Examples:
      issl-engine bench kernels --list
      issl-engine bench kernels --op soft_cross_entropy --repeats 5
      issl-engine bench kernels --op distillation --provider ours --provider compile
    """
    with reserved_stdout():
        from issl_profiling.kernels.bench import default_device, run_bench
        from issl_profiling.kernels.choose_providers import choose_providers
        from issl_profiling.kernels.kernels_csv import KERNELS_FILE, add_times
        from issl_profiling.kernels.operations import choose_cases, choose_operations
        from issl_profiling.kernels.table import listing, print_bench
        from issl_profiling.results_file import made_by_this_run

        device = default_device()
        gpu = device.type == "cuda"
        operations = choose_operations(ops)
        cases = choose_cases(operations, sizes, gpu=gpu)
        names = choose_providers(providers, gpu=gpu)
        if not only_list:
            KERNELS_FILE.check_can_add(out)
            made_by = made_by_this_run()
            lines: list[dict[str, Any]] = []
            measured = run_bench(
                cases, dtypes=dtypes, providers=names, repeats=repeats, device=device,
                on_result=lambda result: lines.extend(add_times(out, result.times, made_by)),
            )  # fmt: skip
    if only_list:
        listed = listing(operations, names)
        click.echo(json.dumps(listed, indent=1) if as_json else "\n".join(_lines(listed)))
        return
    if as_json:
        record = {
            "device": measured.device,
            "ceilings": {dtype: ceilings._asdict() for dtype, ceilings in measured.ceilings.items()},
            "rows": lines,
            "values": [
                {"op": result.op, "case": result.case, "dtype": result.dtype, "values": result.values}
                for result in measured.results
            ],
            "left_out": [asdict(left_out) for left_out in measured.left_out],
        }
        click.echo(json.dumps(record, indent=1))
        return
    print_bench(measured)
    click.echo(out)


def _lines(listed: dict[str, list[str]]) -> list[str]:
    """A heading, and its entries below it."""
    return [line for heading, entries in listed.items() for line in (heading, *(f"  {entry}" for entry in entries))]


@click.command("resources")
@click.option("--op", "ops", multiple=True, metavar="NAME", help="Operation; may be repeated; default all.")
@click.option(
    "--capability", "capabilities", multiple=True, type=int, default=(80, 89, 90), show_default=True,
    help="Compute capability of a GPU, 90 for sm_90; may be repeated.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="CSV to write anew.")
@json_option
def bench_resources(ops: tuple[str, ...], capabilities: tuple[int, ...], out: Path | None, as_json: bool) -> None:
    """Compile the Triton kernels for GPUs that need not be here: registers, stack and shared memory of each.

    \b
    Example:
      issl-engine bench resources --op distillation --capability 90
    """
    with reserved_stdout():
        from issl_profiling.kernels.operations import choose_operations
        from issl_profiling.kernels.resources import compile_kernels, resources_table, write_resources
        from issl_profiling.results_file import check_can_write, made_by_this_run

        if out is not None:
            check_can_write(out)
        found = compile_kernels(choose_operations(ops), capabilities=capabilities)
        if out is not None:
            write_resources(out, found, made_by_this_run())
    click.echo(json.dumps([asdict(line) for line in found], indent=1) if as_json else resources_table(found))


@click.command("plot")
@click.option(
    "--results", type=click.Path(path_type=Path), metavar="FILE", help="CSV to draw; default that of bench kernels."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the pictures; default plots.")
def bench_plot(results: Path | None, out: Path | None) -> None:
    """Draw time and peak memory over size, a PNG for each operation; prints the files' names.

    \b
    Example:
      issl-engine bench plot --results profiling/results/kernels.csv --out plots
    """
    with reserved_stdout():
        from issl_profiling.kernels.kernels_csv import read_rows
        from issl_profiling.kernels.plot import draw

        written = draw(read_rows(results or default_results("kernels.csv")), out or Path("plots"))
    for path in written:
        click.echo(path)

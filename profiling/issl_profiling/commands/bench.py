"""issl-engine bench: times kernels, loaders and training, draws results, compares augmentations with torchvision's."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout
from issl_profiling.commands.bench_data import bench_data
from issl_profiling.commands.bench_diagnostics import bench_diagnostics
from issl_profiling.commands.bench_features import bench_features
from issl_profiling.commands.bench_results import default_results
from issl_profiling.commands.bench_train import bench_train


@click.group()
def bench() -> None:
    """Time kernels, loaders, training beside other libraries; draw results; compare augmentations with torchvision's.

    \b
    Examples:
      issl-engine bench kernels --op info_nce
      issl-engine bench data
      issl-engine bench features
      issl-engine bench train
      issl-engine bench diagnostics
      issl-engine bench plot
    """


bench.add_command(bench_data)
bench.add_command(bench_features)
bench.add_command(bench_train)
bench.add_command(bench_diagnostics)


@bench.command()
@click.option("--op", "ops", multiple=True, metavar="NAME", help="Operation; may be repeated; default all.")
@click.option("--sizes", multiple=True, metavar="NAME", help="Case, as --list names it; may be repeated.")
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(["bf16", "fp16", "fp32"]),
    help="Of the inputs; may be repeated; default bf16 on a GPU, fp32 on a CPU.",
)  # fmt: skip
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Who computes; may be repeated.")
@click.option("--repeats", type=click.IntRange(1), help="Rounds; default 50 on a GPU, 7 on a CPU.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV to add to; default kernels.csv in profiling/results, or here where there is no such folder.",
)  # fmt: skip
@click.option("--list", "only_list", is_flag=True, help="Print operations, cases and providers; time nothing.")
@json_option
def kernels(
    ops: tuple[str, ...], sizes: tuple[str, ...], dtypes: tuple[str, ...], providers: tuple[str, ...],
    repeats: int | None, out: Path | None, only_list: bool, as_json: bool,
) -> None:  # fmt: skip
    """Time operations: forward, backward and both; print tables and add the lines to a CSV file.

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
        from issl_profiling.kernels.operations import choose_cases, choose_operations
        from issl_profiling.kernels.providers import choose_providers
        from issl_profiling.kernels.results import append_rows, as_record, check_results_file
        from issl_profiling.kernels.table import listing, print_bench

        device = default_device()
        gpu = device.type == "cuda"
        operations = choose_operations(ops)
        cases = choose_cases(operations, sizes, gpu=gpu)
        names = choose_providers(providers, gpu=gpu)
        if not only_list:
            results_file = out or default_results("kernels.csv")
            check_results_file(results_file)
            measured = run_bench(
                cases, dtypes=dtypes, providers=names, repeats=repeats, device=device,
                command=shlex.join(["issl-engine", *sys.argv[1:]]),
                on_result=lambda result: append_rows(results_file, result.rows),
            )  # fmt: skip
    if only_list:
        listed = listing(operations, names)
        click.echo(json.dumps(listed, indent=1) if as_json else "\n".join(_lines(listed)))
        return
    if as_json:
        record = {
            "device": measured.device,
            "ceilings": {dtype: ceilings._asdict() for dtype, ceilings in measured.ceilings.items()},
            "rows": [as_record(row) for result in measured.results for row in result.rows],
            "values": [
                {"op": result.op, "case": result.case, "dtype": result.dtype, "values": result.values}
                for result in measured.results
            ],
            "left_out": [asdict(left_out) for left_out in measured.left_out],
        }
        click.echo(json.dumps(record, indent=1))
        return
    print_bench(measured)
    click.echo(results_file)


def _lines(listed: dict[str, list[str]]) -> list[str]:
    """A heading, and its entries below it."""
    return [line for heading, entries in listed.items() for line in (heading, *(f"  {entry}" for entry in entries))]


@bench.command()
@click.option("--op", "ops", multiple=True, metavar="NAME", help="Operation; may be repeated; default all.")
@click.option(
    "--capability", "capabilities", multiple=True, type=int, default=(80, 89, 90), show_default=True,
    help="Of the GPU, 90 for sm_90; may be repeated.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="CSV to write.")
@json_option
def resources(ops: tuple[str, ...], capabilities: tuple[int, ...], out: Path | None, as_json: bool) -> None:
    """Compile the Triton kernels for GPUs that need not be here: registers, stack and shared memory of each.

    \b
    Example:
      issl-engine bench resources --op distillation --capability 90
    """
    with reserved_stdout():
        from issl_profiling.kernels.compiled import compile_kernels, resources_table, write_resources
        from issl_profiling.kernels.operations import choose_operations

        found = compile_kernels(choose_operations(ops), capabilities=capabilities)
        if out is not None:
            write_resources(out, found)
    click.echo(json.dumps([asdict(line) for line in found], indent=1) if as_json else resources_table(found))


@bench.command()
@click.option("--results", type=click.Path(path_type=Path), metavar="FILE", help="CSV to draw; default as bench's.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the pictures; default plots.")
def plot(results: Path | None, out: Path | None) -> None:
    """Draw time and peak memory over size, a PNG for each operation; prints the files' names.

    \b
    Example:
      issl-engine bench plot --results profiling/results/kernels.csv --out plots
    """
    with reserved_stdout():
        from issl_profiling.kernels.plot import draw
        from issl_profiling.kernels.results import read_rows

        written = draw(read_rows(results or default_results("kernels.csv")), out or Path("plots"))
    for path in written:
        click.echo(path)


@bench.command()
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV to write; default parity.csv in profiling/results, or here where there is no such folder.",
)  # fmt: skip
@json_option
def parity(out: Path | None, as_json: bool) -> None:
    """Compare the loader's augmentations with torchvision's: pixels, and the distributions of random numbers.

    Takes torchvision (issl-engine[peers]). Exit code 1 where something is further off than allowed.

    \b
    Example:
      issl-engine bench parity
    """
    with reserved_stdout():
        from issl_profiling.data.parity import measure_parity, parity_records, print_parity
        from issl_profiling.data.parity_row import WITHIN, check_records_file, write_records

        results_file = out or default_results("parity.csv")
        check_records_file(results_file)
        deviations = measure_parity()
        records = parity_records(deviations, shlex.join(["issl-engine", *sys.argv[1:]]))
        write_records(results_file, records)
    if as_json:
        click.echo(json.dumps(records, indent=1))
    else:
        print_parity(deviations)
        click.echo(results_file)
    if any(deviation.verdict != WITHIN for deviation in deviations):
        sys.exit(1)

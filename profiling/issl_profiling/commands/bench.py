"""issl-engine bench: the group of all benchmarks."""

import click

from issl_profiling.commands.bench_data import bench_data
from issl_profiling.commands.bench_diagnostics import bench_diagnostics
from issl_profiling.commands.bench_features import bench_features
from issl_profiling.commands.bench_kernels import bench_kernels, bench_plot, bench_resources
from issl_profiling.commands.bench_parity import bench_parity
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


for command in (
    bench_kernels, bench_data, bench_features, bench_train, bench_diagnostics, bench_parity, bench_plot,
    bench_resources,
):  # fmt: skip
    bench.add_command(command)

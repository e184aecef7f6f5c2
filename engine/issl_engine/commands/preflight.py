"""issl-engine preflight: the checks that come before training, without training."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from issl_engine.commands.options import (
    LaunchOptions,
    json_option,
    launch_options,
    overrides_argument,
    recipe_argument,
    run_folder_option,
)
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.mistakes import Mistake

if TYPE_CHECKING:
    from issl_engine.launch.preflight import Preflight, RankReport


@click.command()
@recipe_argument
@overrides_argument
@run_folder_option
@launch_options
@json_option
def preflight(recipe: str, overrides: tuple[str, ...], out: Path | None, launch: LaunchOptions, as_json: bool) -> None:
    """Check on every rank what RECIPE needs: versions, data, run folder, connection, clocks and memory.

    Nothing is trained. 'issl-engine run' makes the same checks before it trains. The exit code is 1 if something must
    be mended.

    \b
    Examples:
      issl-engine preflight smoke --ranks 2
      issl-engine preflight imagenet/swav_compare source.folder=DIR --hostfile hosts --json
    """
    from issl_engine.commands.launching import as_rank, hosts_to_start, run_as_ranks

    with as_rank() as failures:
        with reserved_stdout():
            from issl_engine.recipe.load import load_recipe

            file = load_recipe(recipe, overrides)
            folder = out or Path("runs") / next(iter(file.arms.values())).name
            hosts = hosts_to_start(launch)
        if hosts is not None:
            run_as_ranks(hosts, file.arms, folder, launch)
            return
        with reserved_stdout():
            from issl_engine.launch.folder_lock import locked_folder
            from issl_engine.launch.preflight import look
            from issl_engine.ranks import start_ranks
            from issl_engine.run.dataset import load_dataset

            ranks = start_ranks()
            failures.meet(ranks.store)
            with locked_folder(folder, ranks, "auto"):
                done = look(file.arms, folder, ranks, load_dataset)
        if ranks.is_first:
            _show(done, as_json=as_json)
        if done.errors:
            raise Mistake("\n".join(done.errors))


def _show(done: "Preflight", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    from issl_engine.launch.preflight import describe_ranks

    table = Table(title=describe_ranks(done), title_justify="left")
    for name in ("rank", "host", "device", "images", "free GiB", "MB/s", "clock ms", "GPU taken"):
        table.add_column(name, justify="left" if name in ("host", "device") else "right")
    for report in done.reports:
        table.add_row(*_cells(report))
    Console().print(table)
    for name, version in done.reports[0].facts.versions.items():
        click.echo(f"{name} {version}")
    if done.checkpoint_bytes is not None:
        click.echo(f"a checkpoint takes {done.checkpoint_bytes / 2**20:.1f} MiB")
    for finding in done.findings:
        if not finding.is_error:
            click.echo(f"warning: {finding.sentence}")
    if not done.errors:
        click.echo(f"ready to train (checked in {done.seconds:.2f} s)")


def _cells(report: "RankReport") -> list[str]:
    facts, link = report.facts, report.link
    return [
        str(facts.rank),
        facts.host,
        facts.device,
        str(facts.data.num_images) if facts.data else "none",
        f"{report.folder.free_bytes / 2**30:.1f}" if report.folder.error is None else "none",
        f"{link.mb_per_second:.0f}" if link else "–",
        f"{link.clock_ahead_seconds * 1000:+.1f}" if link else "–",
        f"{facts.gpu.taken_by_others_bytes / facts.gpu.total_bytes:.0%}" if facts.gpu else "–",
    ]

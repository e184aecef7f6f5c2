"""issl-engine slurm: a batch script for Slurm that starts a recipe on many nodes."""

from pathlib import Path

import click

from issl_engine.commands.options import overrides_argument, recipe_argument, run_folder_option
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@recipe_argument
@overrides_argument
@click.option("--nodes", type=click.IntRange(min=1), required=True, help="Number of nodes.")
@click.option("--gpus-per-node", type=click.IntRange(min=1), required=True, help="GPUs per node. Each has one task.")
@click.option("--time", "time_limit", required=True, metavar="HH:MM:SS", help="Time limit of one job.")
@click.option("--partition", help="Partition of Slurm.")
@click.option("--account", help="Account of Slurm.")
@run_folder_option
@click.option("--job-name", help="Name of the job; default the recipe's name.")
@click.option("--setup", default="", help="Shell commands that the script runs first, such as 'module load cuda'.")
@click.option(
    "--write", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file, not stdout."
)
def slurm(
    recipe: str, overrides: tuple[str, ...], nodes: int, gpus_per_node: int, time_limit: str, partition: str | None,
    account: str | None, out: Path | None, job_name: str | None, setup: str, file: Path | None,
) -> None:  # fmt: skip
    """Write an sbatch script that runs RECIPE on many nodes, one task per GPU.

    Two minutes before the time limit, training saves and stops, and the job queues itself again until the recipe is
    finished. After an error it does not.

    \b
    Example:
      issl-engine slurm imagenet/swav_compare source.folder=DIR --nodes 4 --gpus-per-node 8 \\
        --time 24:00:00 --write job.sh && sbatch job.sh
    """
    with reserved_stdout():
        from issl_engine.launch.slurm import SlurmJob, batch_script
        from issl_engine.recipe.load import load_recipe
        from issl_engine.training.plan import check_batch_size

        loaded = load_recipe(recipe, overrides)
        for arm in loaded.arms.values():
            check_batch_size(arm.training, nodes * gpus_per_node)
        name = next(iter(loaded.arms.values())).name
        script = batch_script(
            SlurmJob(
                arguments=("run", recipe, *overrides, "--out", str(out or Path("runs") / name)), nodes=nodes,
                gpus_per_node=gpus_per_node, time_limit=time_limit, job_name=job_name or name, partition=partition,
                account=account, setup=setup,
            )
        )  # fmt: skip
    if file is None:
        click.echo(script, nl=False)
    else:
        file.write_text(script, encoding="utf-8")

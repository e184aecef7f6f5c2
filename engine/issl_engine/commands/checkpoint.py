"""issl-engine checkpoint: looks at saved checkpoints, makes one file of one, deletes those that nobody needs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout

if TYPE_CHECKING:
    from issl_engine.training.checkpoints.manifest import Manifest

path_argument = click.argument("path", type=click.Path(path_type=Path))


@click.group()
def checkpoint() -> None:
    """Verify, inspect, consolidate or prune the checkpoints of a run.

    PATH is one checkpoint, or the folder of an arm and seed. For verify and prune it may be the folder of a run.

    \b
    Examples:
      issl-engine checkpoint verify runs/swav_compare
      issl-engine checkpoint inspect runs/swav_compare/dissl/seed0
      issl-engine checkpoint consolidate runs/swav_compare/dissl/seed0 --out dissl.safetensors
      issl-engine checkpoint prune runs/swav_compare --keep 1
    """


@checkpoint.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@json_option
def verify(paths: tuple[Path, ...], as_json: bool) -> None:
    """Read every file of the checkpoints at PATH and compare its size and SHA-256 with the manifest's.

    The exit code is 1 if any of them is damaged.

    \b
    Examples:
      issl-engine checkpoint verify runs/swav_compare
      issl-engine checkpoint verify runs/swav_compare/dissl/seed0/checkpoints/step_00000120 --json
    """
    with reserved_stdout():
        from issl_engine.training.checkpoints.find import find_checkpoints

        rows = [_verified(found) for path in paths for found in find_checkpoints(path)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        click.echo(f"{'state':<8} {'step':>9} {'MB':>10}  checkpoint")
        for row in rows:
            step, size = row["step"], row["bytes"]
            cells = ("", "") if step is None else (str(step), f"{size / 1e6:.1f}")
            state = "whole" if row["whole"] else "damaged"
            click.echo(f"{state:<8} {cells[0]:>9} {cells[1]:>10}  {row['checkpoint']}")
        for row in rows:
            if row["problem"]:
                click.echo(row["problem"], err=True)
    if not all(row["whole"] for row in rows):
        raise click.exceptions.Exit(1)


def _verified(path: Path) -> dict[str, Any]:
    from issl_engine.training.checkpoints.manifest import CheckpointError
    from issl_engine.training.checkpoints.verify import verify_checkpoint

    try:
        manifest = verify_checkpoint(path)
    except CheckpointError as error:
        return {"checkpoint": str(path), "whole": False, "step": None, "bytes": None, "problem": str(error)}
    return {"checkpoint": str(path), "whole": True, "step": manifest.step, "bytes": manifest.bytes, "problem": None}


@checkpoint.command()
@path_argument
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Show the manifest of the checkpoint at PATH: step, recipe, ranks, weights, sizes. No weights are read.

    \b
    Examples:
      issl-engine checkpoint inspect runs/swav_compare/dissl/seed0
      issl-engine checkpoint inspect runs/swav_compare/dissl/seed0 --json
    """
    with reserved_stdout():
        from issl_engine.training.checkpoints.find import resolve_checkpoint
        from issl_engine.training.checkpoints.verify import check_sizes

        found = resolve_checkpoint(path, only=())
        manifest = check_sizes(found)
    if as_json:
        record = asdict(manifest) | {"checkpoint": str(found), "bytes_by_part": _bytes_by_part(manifest)}
        click.echo(json.dumps(record, indent=1))
    else:
        click.echo(_described(found, manifest))


def _bytes_by_part(manifest: "Manifest") -> dict[str, int]:
    from issl_engine.training.checkpoints.layout import part_of

    parts: dict[str, int] = {}
    for name, record in manifest.files.items():
        parts[part_of(name)] = parts.get(part_of(name), 0) + record.bytes
    return parts


def _described(found: Path, manifest: "Manifest") -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    top1 = "none" if manifest.online_top1 is None else f"{manifest.online_top1:.1f} % top-1 since the one before"
    weights = ", ".join(f"{part} {count:,}" for part, count in manifest.parameters.items())
    sizes = ", ".join(f"{part} {size / 1e6:.3g}" for part, size in _bytes_by_part(manifest).items())
    lines = {
        "step": f"{manifest.step} (epoch {manifest.epoch:g}{', finished' if manifest.finished else ''})",
        "recipe": f"{manifest.recipe['name']}, objective {manifest.recipe['objective']['name']}, seed {manifest.seed}",
        "ranks": f"{manifest.world_size}, ZeRO stage {manifest.zero_stage}",
        "online probe": top1,
        "parameters": weights,
        "MB": f"{manifest.bytes / 1e6:.1f}: {sizes}",
        "trained for": f"{manifest.seconds / 60:.1f} minutes",
        "created": f"{manifest.created} by {versions}",
    }
    return "\n".join([str(found), *(f"  {key:<13} {value}" for key, value in lines.items())])


@checkpoint.command()
@path_argument
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@click.option("--encoder-only", is_flag=True, help="Write the encoder alone, its names without prefix.")
@json_option
def consolidate(path: Path, out: Path, encoder_only: bool, as_json: bool) -> None:
    """Write the weights of the checkpoint at PATH into one safetensors file, for use without this engine.

    Names begin with encoder., objective. (heads, prototypes) and teacher. (if there is one). The metadata of the file
    hold the recipe, step and seed.

    \b
    Examples:
      issl-engine checkpoint consolidate runs/swav_compare/dissl/seed0 --out dissl.safetensors
      issl-engine checkpoint consolidate runs/smoke/dissl/seed0 --out e.safetensors --encoder-only
    """
    with reserved_stdout():
        from issl_engine.training.checkpoints.consolidate import consolidate as write

        content = write(path, out, encoder_only=encoder_only)
    if as_json:
        click.echo(json.dumps({"file": str(out), "tensors": len(content.tensors), "bytes": content.bytes}))
    else:
        click.echo(str(out))


@checkpoint.command()
@path_argument
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    required=True,
    help="Number of newest checkpoints that are kept per arm and seed.",
)
@click.option("--every", type=click.FloatRange(min=0, min_open=True), help="Also keep one per this number of epochs.")
@click.option("--best", is_flag=True, help="Also keep the one whose online probe was best.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted, as without --yes.")
@click.option("--yes", is_flag=True, help="Delete; without it nothing is deleted.")
@json_option
def prune(path: Path, keep: int, every: float | None, best: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete the checkpoints in the arms at PATH that the options do not keep. Without --yes only show them.

    Damaged checkpoints are not counted, so every file is read. The newest whole checkpoint of an arm is always kept.

    \b
    Examples:
      issl-engine checkpoint prune runs/swav_compare --keep 1
      issl-engine checkpoint prune runs/swav_compare --keep 2 --every 10 --best --yes
    """
    if dry_run and yes:
        raise click.UsageError("--dry-run and --yes contradict each other; give one of them")
    with reserved_stdout():
        from issl_engine.training.checkpoints.find import arm_folders
        from issl_engine.training.checkpoints.keep import KeepRule, plan_pruning
        from issl_engine.training.checkpoints.layout import discard
        from issl_engine.training.checkpoints.verify import verify_checkpoint

        rule = KeepRule(newest=keep, every_epochs=every, best=best)
        plans = [plan_pruning(folder, rule, check=verify_checkpoint) for folder in arm_folders(path)]
        stay, go = ([str(found) for plan in plans for found in plan[side]] for side in (0, 1))
        if yes:
            for found in go:
                discard(Path(found))
    if as_json:
        click.echo(json.dumps({"kept": stay, "deleted" if yes else "would_delete": go}, indent=1))
        return
    for word, found_paths in (("kept", stay), ("deleted" if yes else "would go", go)):
        for found in found_paths:
            click.echo(f"{word:<9} {found}")
    if go and not yes:
        click.echo("nothing was deleted: --yes does it", err=True)

"""issl-engine inspect-weights: what a file of weights holds."""

import json
from typing import Any

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout


@click.command("inspect-weights")
@click.argument("file")
@json_option
def inspect_weights(file: str, as_json: bool) -> None:
    """Show the layout of FILE (or of a published name), its encoder, and what else it holds. Nothing is built.

    \b
    Examples:
      issl-engine inspect-weights swav_800ep_pretrain.pth.tar
      issl-engine inspect-weights 'cifar.ckpt?stem=tiny&size=32' --json
    """
    with reserved_stdout():
        from issl_engine.weights.reference import locate
        from issl_engine.weights.weights_file import read_weights

        found = locate(file)
        record = _record(read_weights(found.path), found.options)
    if as_json:
        click.echo(json.dumps(record, indent=1))
        return
    for key, value in record.items():
        shown = "\n".join(f"{'':<16} {line}" for line in value).strip() if isinstance(value, list) else str(value)
        click.echo(f"{key.replace('_', ' '):<16} {shown or 'none'}")


def _record(file: Any, options: Any) -> dict[str, Any]:
    from issl_engine.weights.build_encoder import identify
    from issl_engine.weights.engine_file import is_engine_file, read_metadata

    record: dict[str, Any] = {"file": str(file.path), "tensors": len(file.tensors)}
    record["megabytes"] = round(sum(tensor.nbytes for tensor in file.tensors.values()) / 1e6, 1)
    if is_engine_file(file):
        found = read_metadata(file)
        return record | {
            "layout": "engine",
            "encoder": found.config.model_dump_json(exclude_defaults=True),
            "images": found.preprocessing.describe(),
            "recipe": None if found.recipe is None else found.recipe.name,
        }
    identified = identify(file, options)
    reading = identified.reading
    return record | {
        "layout": reading.layout.name,
        "encoder": identified.config.model_dump_json(exclude_defaults=True),
        "prefix": reading.root,
        "images": identified.preprocessing.describe(),
        "encoder_tensors": len(reading.encoder),
        "heads": _outermost(reading.heads),
        "others": _outermost(reading.others),
        "left_over": list(reading.left_over),
    }


def _outermost(names: tuple[str, ...]) -> list[str]:
    """One line per group of names: the name without what numbers its layers and parameters."""
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        cut = next((index for index, part in enumerate(parts) if part.isdigit()), max(len(parts) - 1, 1))
        group = ".".join(parts[: max(cut, 1)])
        counts[group] = counts.get(group, 0) + 1
    return [f"{group} ({count} tensors)" for group, count in counts.items()]

"""issl-engine data: makes, fetches, inspects or packs the images of a source."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from issl_engine.commands.data_pack import pack
from issl_engine.commands.options import is_quiet, json_option, named_source, overrides_argument
from issl_engine.commands.stdout import reserved_stdout

if TYPE_CHECKING:
    from issl_engine.sources.images.inspection import Inspection

EXAMPLES_SHOWN = 3


@click.group()
def data() -> None:
    """Make, fetch or inspect a dataset, or pack it into a few large files.

    \b
    Examples:
      issl-engine data inspect photos
      issl-engine data pack photos --out packed
      issl-engine data make shapes --folder shapes
      issl-engine data fetch fashion-mnist
    """


data.add_command(pack)


@data.group()
def make() -> None:
    """Draw the images of a dataset.

    \b
    Example:
      issl-engine data make shapes --folder shapes
    """


@data.group()
def fetch() -> None:
    """Fetch public images, and compare their checksums.

    \b
    Example:
      issl-engine data fetch fashion-mnist
    """


@make.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--num-train", type=int, default=4096, show_default=True, help="Training images.")
@click.option("--num-test", type=int, default=1024, show_default=True, help="Test images.")
@click.option("--num-classes", type=int, default=10, show_default=True, help="Kinds of shapes.")
@click.option("--image-size", type=int, default=64, show_default=True, help="Side of the images, in pixels.")
@click.option("--rotation", type=float, default=360.0, show_default=True, help="Largest turn of a copy, in degrees.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the drawing.")
def shapes(
    folder: Path, num_train: int, num_test: int, num_classes: int, image_size: int, rotation: float, seed: int
) -> None:
    """Draw coloured shapes on textured backgrounds: FOLDER/train, FOLDER/test and a table of what was drawn.

    A recipe reads them with source.folder, and the same source.num_train and source.num_test. A recipe also makes the
    shapes that it needs by itself. This command is for a look at them, or for a folder that several machines share.

    \b
    Example:
      issl-engine data make shapes --folder shapes --num-train 2000
    """
    with reserved_stdout():
        from pydantic import ValidationError

        from issl_engine.recipe.check import first_sentence
        from issl_engine.sources.shapes import ShapesConfig, make_shapes

        try:
            config = ShapesConfig(
                num_train=num_train,
                num_test=num_test,
                num_classes=num_classes,
                image_size=image_size,
                rotation=rotation,
                seed=seed,
            )
        except ValidationError as error:
            key, colon, said = first_sentence(error).partition(": ")
            raise click.UsageError(f"--{key.replace('_', '-')}: {said}" if colon else key) from error
        make_shapes(folder, config)
    click.echo(folder)


@fetch.command("fashion-mnist")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of the files; default the cache, where recipes look.",
)
@click.option(
    "--origin",
    type=click.Path(path_type=Path),
    help="Folder to copy from; default Debian's package dataset-fashion-mnist. If there is none, they are downloaded.",
)
def fashion_mnist(folder: Path | None, origin: Path | None) -> None:
    """Copy or download the four files of Fashion-MNIST (30 MB), and compare their checksums.

    \b
    Examples:
      issl-engine data fetch fashion-mnist
      issl-engine data fetch fashion-mnist --folder fashion --origin downloads
    """
    with reserved_stdout():
        from issl_engine.sources.fashion_mnist import fetch_fashion_mnist

        place = fetch_fashion_mnist(folder, origin=origin)
    click.echo(place)


@data.command()
@click.argument("source")
@overrides_argument
@json_option
def inspect(source: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Look at SOURCE: a folder, or the source of a recipe.

    The folder holds train/<class>/* and val/<class>/* (or test/), or shards. Its files show which source reads it.

    Reads every image. Shows the images per split and class, their sizes, corrupt files, the mean of each channel, and
    images that are there twice: with the same bytes, or alike to the eye, also across splits.

    \b
    Examples:
      issl-engine data inspect photos
      issl-engine data inspect fashion_mnist/paper
      issl-engine data inspect imagenet/swav_compare source.folder=IMAGENET --json
    """
    with reserved_stdout():
        from issl_engine.commands.display import CountingDisplay
        from issl_engine.sources.images.inspection import inspect_dataset

        dataset = named_source(source, overrides).survey()
        with CountingDisplay("inspecting", "images", quiet=is_quiet()) as display:
            found = inspect_dataset(dataset, on_progress=display.show)
    click.echo(json.dumps(asdict(found), indent=1, ensure_ascii=False) if as_json else _described(found))


def _described(found: "Inspection") -> str:
    lines = [f"{found.name}"]
    for name, split in found.splits.items():
        counts = {label: count for label, count in split.images_of_classes.items() if count}
        lines.append(f"  {name}: {split.images} images")
        if counts:
            least, most = min(counts, key=lambda key: counts[key]), max(counts, key=lambda key: counts[key])
            span = f"{counts[least]} ({least}) to {counts[most]} ({most}) images"
            each = span if counts[least] < counts[most] else f"{counts[least]} images each"
            lines.append(f"    {len(counts)} of {len(split.images_of_classes)} classes: {each}")
        sizes = (split.smallest_HW, split.median_HW, split.largest_HW)
        lines.append("    smallest, median, largest: " + ", ".join(f"{width} x {height}" for height, width in sizes))
        mean, std = (" ".join(f"{value:.3f}" for value in three) for three in (split.channel_mean, split.channel_std))
        lines.append(f"    channels: mean {mean}, deviation {std} (of {split.sampled} images)")
    lines.append(f"  corrupt: {len(found.corrupt)} files")
    lines += [f"    {path} ({reason})" for path, reason in found.corrupt]
    repeated = found.repeated
    for what, groups in (("of the same bytes", repeated.same_bytes), ("that look alike", repeated.look_alike)):
        lines.append(f"  groups of images {what}: {len(groups)}, across splits {repeated.across_splits(groups)}")
        lines += [
            "    " + ", ".join(f"{split}: {name}" for split, name in group[:EXAMPLES_SHOWN])
            for group in sorted(groups, key=lambda group: len({split for split, _ in group}) == 1)[:EXAMPLES_SHOWN]
        ]
    return "\n".join(lines)

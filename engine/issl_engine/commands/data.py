"""issl-engine data: makes or fetches the images of a source."""

from pathlib import Path

import click

from issl_engine.commands.stdout import reserved_stdout


@click.group()
def data() -> None:
    """Make or fetch a dataset, so that a recipe finds it.

    \b
    Examples:
      issl-engine data make shapes --folder shapes
      issl-engine data fetch fashion-mnist
    """


@data.group()
def make() -> None:
    """Make images on the spot.

    \b
    Example:
      issl-engine data make shapes --folder shapes
    """


@data.group()
def fetch() -> None:
    """Fetch public images, checksums compared.

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
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the drawing.")
def shapes(folder: Path, num_train: int, num_test: int, num_classes: int, image_size: int, seed: int) -> None:
    """Draw coloured shapes on textured backgrounds: FOLDER/train, FOLDER/test and a table of what was drawn.

    A recipe takes them with source.folder, and the same source.num_train and source.num_test. Recipes make
    the shapes they need by themselves; this is for looking at them, or for several machines to share.

    \b
    Example:
      issl-engine data make shapes --folder shapes --num-train 2000
    """
    with reserved_stdout():
        from pydantic import ValidationError

        from issl_engine.data.sources.shapes import ShapesConfig, make_shapes

        try:
            config = ShapesConfig(
                num_train=num_train,
                num_test=num_test,
                num_classes=num_classes,
                image_size=image_size,
                seed=seed,
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            option = str(first["loc"][0]).replace("_", "-")
            raise click.UsageError(f"--{option}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
        make_shapes(folder, config)
    click.echo(folder)


@fetch.command("fashion-mnist")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where to put the files; default the cache, where recipes look.",
)
@click.option(
    "--origin",
    type=click.Path(path_type=Path),
    help="Copy from this folder; default Debian's package dataset-fashion-mnist, else download.",
)
def fashion_mnist(folder: Path | None, origin: Path | None) -> None:
    """Copy or download the four files of Fashion-MNIST (30 MB), comparing their checksums.

    \b
    Examples:
      issl-engine data fetch fashion-mnist
      issl-engine data fetch fashion-mnist --folder fashion --origin downloads
    """
    with reserved_stdout():
        from issl_engine.data.sources.fashion_mnist import fetch_fashion_mnist

        place = fetch_fashion_mnist(folder, origin=origin)
    click.echo(place)

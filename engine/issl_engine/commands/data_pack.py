"""issl-engine data pack: a source copied into a few large files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from issl_engine.commands.options import is_quiet, json_option, named_source, overrides_argument
from issl_engine.commands.stdout import reserved_stdout

if TYPE_CHECKING:
    from issl_engine.sources.packing.pack import Packed
    from issl_engine.sources.packing.reencode import RGB

DEFAULT_QUALITY = 90


def _colour(context: click.Context, parameter: click.Parameter, value: str | None) -> "RGB | None":
    """A colour by name or as #rrggbb."""
    from PIL import ImageColor

    if value is None:
        return None
    try:
        red, green, blue, *_ = ImageColor.getrgb(value)
    except ValueError:
        raise click.BadParameter(f"'{value}' is no colour; give a name such as white, or #rrggbb") from None
    return red, green, blue


@click.command()
@click.argument("source", required=False)
@overrides_argument
@click.option(
    "--to", "layout", type=click.Choice(["webdataset"]), default="webdataset", show_default=True,
    help="Layout: tar shards with <key>.<jpg|png|...> and <key>.cls.",
)  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill.")
@click.option("--shard-mib", type=click.IntRange(min=1), default=512, show_default=True, help="Most MiB per shard.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the images' order.")
@click.option(
    "--max-side", type=click.IntRange(min=16),
    help="Shorter side, in pixels, to which larger images are scaled down and encoded again, JPEGs as JPEG and others "
    "as PNG. This changes the images and makes decoding several times cheaper. Without it images are copied as they "
    "are.",
)  # fmt: skip
@click.option(
    "--quality", type=click.IntRange(1, 100), help=f"JPEG quality for --max-side.  [default: {DEFAULT_QUALITY}]"
)
@click.option(
    "--background", callback=_colour, metavar="COLOUR",
    help="Colour (white, #ff8800) on which transparent images are drawn, which become PNGs without transparency. "
    "Without it training sees the colours that the file has there, often black.",
)  # fmt: skip
@click.option("--verify", is_flag=True, help="Compare every shard in --out with its checksum. SOURCE is not needed.")
@json_option
def pack(
    source: str | None,
    overrides: tuple[str, ...],
    layout: str,
    out: Path,
    shard_mib: int,
    seed: int,
    max_side: int | None,
    quality: int | None,
    background: "RGB | None",
    verify: bool,
    as_json: bool,
) -> None:
    """Copy the images of SOURCE (a folder, or the source of a recipe) into tar files of --shard-mib each.

    Disks and networks read a few large files much faster than a million small ones. Encoded images are copied as they
    are, pixels are stored as PNG. Images of the training split are shuffled, so that every shard is a mixture. After an
    interruption the same command goes on behind the last complete shard, and the bytes are the same.

    \b
    Examples:
      issl-engine data pack photos --out packed
      issl-engine data pack imagenet/swav_compare source.folder=IMAGENET --out packed --max-side 256
      issl-engine data pack --verify --out packed
    """
    if source is None and not verify:
        raise click.UsageError("SOURCE is missing: name a folder or a recipe, or give --verify")
    if quality is not None and max_side is None:
        raise click.UsageError("--quality is for images that --max-side makes smaller; give both, or neither")
    packed: Packed | None = None
    broken: dict[str, str] | None = None
    with reserved_stdout():
        if source is not None:
            smaller = None if max_side is None else (max_side, quality or DEFAULT_QUALITY)
            packed = _pack(source, overrides, out, shard_mib, seed, smaller, background)
        if verify:
            broken = _verify(out)
    index = packed.index if packed is not None else json.loads((out / "index.json").read_text(encoding="utf-8"))
    click.echo(_json(out, index, packed, broken) if as_json else _described(out, index, packed, broken))
    if broken:
        raise click.ClickException(
            f"{out}: {len(broken)} of {len(index['shards'])} shards are broken; remove them and run data pack again "
            "with the same SOURCE and options"
        )


def _pack(
    source: str,
    overrides: tuple[str, ...],
    out: Path,
    shard_mib: int,
    seed: int,
    smaller: tuple[int, int] | None,
    background: "RGB | None",
) -> "Packed":
    from issl_engine.commands.display import CountingDisplay
    from issl_engine.sources.packing.pack import PackSettings, pack_dataset
    from issl_engine.sources.packing.reencode import Reencoding, Smaller

    dataset = named_source(source, overrides).load()
    scaled = Smaller(shorter_side_px=smaller[0], quality=smaller[1]) if smaller is not None else None
    reencoding = Reencoding(smaller=scaled, background=background)
    settings = PackSettings(shard_mib=shard_mib, seed=seed, reencoding=reencoding)
    try:
        with CountingDisplay("packing", "images", quiet=is_quiet()) as display:
            return pack_dataset(dataset, out, settings, on_progress=display.show)
    except KeyboardInterrupt:
        raise click.ClickException(f"{out}: stopped; the same command goes on after the last complete shard") from None


def _verify(out: Path) -> dict[str, str]:
    from issl_engine.commands.display import CountingDisplay
    from issl_engine.sources.packing.verify import broken_shards

    with CountingDisplay("verifying", "shards", quiet=is_quiet()) as display:
        return broken_shards(out, on_progress=display.show)


def _json(out: Path, index: dict[str, Any], packed: "Packed | None", broken: dict[str, str] | None) -> str:
    left_out = None if packed is None else [[one.name, one.reason] for one in packed.left_out]
    return json.dumps(
        {"folder": str(out)} | index | {"left_out": left_out, "broken": broken}, indent=1, ensure_ascii=False
    )


def _described(out: Path, index: dict[str, Any], packed: "Packed | None", broken: dict[str, str] | None) -> str:
    lines = [str(out)]
    for split in dict.fromkeys(shard["split"] for shard in index["shards"]):
        shards = [shard for shard in index["shards"] if shard["split"] == split]
        images, num_bytes = (sum(shard[key] for shard in shards) for key in ("samples", "bytes"))
        lines.append(f"  {split}: {images} images in {_counted(len(shards), 'shard')}, {num_bytes / 2**20:.1f} MiB")
    if "reencoded" in index:
        lines.append(f"  encoded again: {_reencoding(index['reencoded'])}")
    if packed is not None:
        lines.append(f"  left out: {_counted(len(packed.left_out), 'image')}")
        lines += [f"    {one.name} ({one.reason})" for one in packed.left_out]
    if broken is not None:
        lines += [f"  {file}: {wrong}" for file, wrong in broken.items()] or ["  all checksums are right"]
    return "\n".join(lines)


def _reencoding(how: dict[str, Any]) -> str:
    parts = [f"{how['images']} images"]
    if "shorter_side_px" in how:
        parts.append(f"shorter side at most {how['shorter_side_px']} px, JPEG quality {how['quality']}")
    if "background" in how:
        parts.append("transparent ones on #" + "".join(f"{channel:02x}" for channel in how["background"]))
    return ", ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

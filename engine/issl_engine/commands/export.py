"""issl-engine export: an encoder in a format of others."""

import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

import issl_engine.weights.formats as formats
from issl_engine.commands.options import NETWORK, NETWORK_HELP, json_option
from issl_engine.commands.stdout import reserved_stdout

if TYPE_CHECKING:
    from issl_engine.probing.config import Network

NAMES = sorted(info.name for info in pkgutil.iter_modules(formats.__path__) if info.name != "base")


@click.command()
@click.argument("reference")
@click.option("--format", "format_name", type=click.Choice(NAMES), required=True, help="Format to write.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write; a folder for safetensors.")
@click.option("--network", type=NETWORK, help=NETWORK_HELP)
@click.option("--license", "license_name", default="unknown", help="Licence of the weights, for the model card.")
@json_option
def export(
    reference: str, format_name: str, out: Path, network: "Network | None", license_name: str, as_json: bool
) -> None:
    """Write the encoder that REFERENCE names for use without this engine.

    REFERENCE is a checkpoint, an arm's folder, a file of weights of any layout that 'issl-engine inspect-weights'
    knows, or a name of 'issl-engine list weights'. Nothing is overwritten.

    \b
    torchvision   a state dict for torchvision's ResNets
    timm          a state dict for timm.create_model(NAME, num_classes=0)
    safetensors   a folder with model.safetensors and a model card (README.md)
    onnx          a graph for onnxruntime, compared with torch before it is kept
    torch_export  a program for torch.export.load

    \b
    Examples:
      issl-engine export runs/swav_compare/dissl/seed0 --format safetensors --out dissl --license mit
      issl-engine export runs/mine/dino/seed0 --network teacher --format timm --out dino.pth
      issl-engine export swav_800ep_pretrain.pth.tar --format torchvision --out swav.pth
      issl-engine export dissl_resnet50_d8192_e400_m6 --format onnx --out dissl.onnx
    """
    with reserved_stdout():
        from issl_engine.variants import variants
        from issl_engine.weights.formats.base import ExportFormat
        from issl_engine.weights.open_encoder import open_encoder
        from issl_engine.weights.weights_file import WeightsError

        if out.exists():
            raise WeightsError(f"{out}: it is here already; choose another --out")
        if not out.parent.is_dir():
            raise WeightsError(f"{out}: there is no folder {out.parent}; make it, or choose another --out")
        opened = open_encoder(reference, network)
        kind = variants(formats, ExportFormat)[format_name]
        exported = kind(name=format_name).write(opened, out, license_name=license_name)
    if as_json:
        record = {"files": [str(file) for file in exported.files], "usage": exported.usage, "digest": opened.digest}
        click.echo(json.dumps(record, indent=1))
        return
    for file in exported.files:
        click.echo(str(file))
    click.echo(f"images: {opened.preprocessing.describe()}", err=True)
    click.echo(exported.usage, err=True)

"""Encoders that their authors published, by name: their addresses, and the sources of these.

Addresses and names of files were read in the authors' own repositories (``source``); whether they still answer shows
when they are fetched. A checksum is given where the authors give one.
"""

from dataclasses import dataclass, replace

from issl_engine.views.preprocessing import IMAGENET, Preprocessing
from issl_engine.weights.layouts.vit import BICUBIC

DISSL = "https://github.com/YannDubs/Invariant-Self-Supervised-Learning/releases/download/v1.0.0-alpha/"
SWAV = "https://dl.fbaipublicfiles.com/deepcluster/"
DINO = "https://dl.fbaipublicfiles.com/dino/"
MOCO = "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/"
MOCO_V3 = "https://dl.fbaipublicfiles.com/moco-v3/"
TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published file of weights."""

    url: str
    about: str
    source: str
    """Repository and file that name the address."""
    sha256: str = ""
    """The first characters of the file's SHA-256, in hexadecimal, or empty where none is published."""
    md5: str = ""
    """The first characters of the file's MD5, or empty."""
    preprocessing: Preprocessing | None = None
    """How images are prepared, where it is not as the file's layout does."""

    @property
    def file_name(self) -> str:
        """The name in the cache. It begins with the folder's, since authors call many files resnet50.pth."""
        folder, _, name = self.url.removeprefix("https://").rpartition("/")
        return f"{folder.rpartition('/')[2]}-{name}"


def _dissl() -> dict[str, Published]:
    """Dubois et al. 2022 (arXiv 2209.06235), table of the repository's README; accuracies are the authors'."""
    rows = (
        ("dNone_e100_m2", "2048 dimensions, 100 epochs, 2x224", 66.9),
        ("d8192_e100_m2", "8192 dimensions, 100 epochs, 2x224", 68.9),
        ("d8192_e100_m6", "8192 dimensions, 100 epochs, 2x160 + 4x96", 70.7),
        ("dNone_e400_m2", "2048 dimensions, 400 epochs, 2x224", 71.1),
        ("dNone_e400_m6", "2048 dimensions, 400 epochs, 2x160 + 4x96", 73.0),
        ("d8192_e400_m6", "8192 dimensions, 400 epochs, 2x160 + 4x96", 74.0),
        ("d8192_e800_m8", "8192 dimensions, 800 epochs, 2x224 + 6x96", 73.9),
    )
    return {
        f"dissl_resnet50_{name}": Published(
            url=f"{DISSL}dissl_resnet50_{name}.torch",
            about=f"DISSL ResNet-50, {words}; authors' linear probe on ImageNet {top1} %",
            source="YannDubs/Invariant-Self-Supervised-Learning: README.md, hubconf.py",
        )
        for name, words, top1 in rows
    }


def _swav() -> dict[str, Published]:
    source = "facebookresearch/swav: README.md, hubconf.py"
    rows = {
        **{f"swav_resnet50_e{epochs}": f"swav_{epochs}ep_pretrain" for epochs in (100, 200, 400, 800)},
        "swav_resnet50_e400_2x224": "swav_400ep_2x224_pretrain",
        **{f"swav_resnet50w{width}_e400": f"swav_RN50w{width}_400ep_pretrain" for width in (2, 4, 5)},
        "deepclusterv2_resnet50_e800": "deepclusterv2_800ep_pretrain",
        "selav2_resnet50_e400": "selav2_400ep_pretrain",
    }
    return {
        name: Published(url=f"{SWAV}{file}.pth.tar", about=f"{file}, ResNet-50", source=source)
        for name, file in rows.items()
    }


def _dino() -> dict[str, Published]:
    source = "facebookresearch/dino: README.md, hubconf.py"
    rows = {
        "dino_resnet50": ("dino_resnet50_pretrain", "DINO ResNet-50"),
        "dino_vits16": ("dino_deitsmall16_pretrain", "DINO ViT-S/16"),
        "dino_vits8": ("dino_deitsmall8_pretrain", "DINO ViT-S/8"),
        "dino_vitb16": ("dino_vitbase16_pretrain", "DINO ViT-B/16"),
        "dino_vitb8": ("dino_vitbase8_pretrain", "DINO ViT-B/8"),
    }
    return {
        name: Published(url=f"{DINO}{file}/{file}.pth", about=about, source=source, preprocessing=BICUBIC)
        for name, (file, about) in rows.items()
    }


def _moco() -> dict[str, Published]:
    rows = (
        ("moco_v1_resnet50_e200", "moco_v1_200ep", "b251726a"),
        ("moco_v2_resnet50_e200", "moco_v2_200ep", "59fd9945"),
        ("moco_v2_resnet50_e800", "moco_v2_800ep", "a04e12f8"),
    )
    found = {
        name: Published(
            url=f"{MOCO}{file}/{file}_pretrain.pth.tar",
            about=f"{file}, ResNet-50",
            source="facebookresearch/moco: README.md",
            md5=md5,
        )
        for name, file, md5 in rows
    }
    rows_v3 = {f"moco_v3_resnet50_e{epochs}": f"r-50-{epochs}ep" for epochs in (100, 300, 1000)}
    rows_v3 |= {"moco_v3_vits16_e300": "vit-s-300ep", "moco_v3_vitb16_e300": "vit-b-300ep"}
    found |= {
        name: Published(
            url=f"{MOCO_V3}{file}/{file}.pth.tar", about=f"MoCo v3 {file}", source="facebookresearch/moco-v3: CONFIG.md"
        )
        for name, file in rows_v3.items()
    }
    return found


def _further() -> dict[str, Published]:
    return {
        "barlow_twins_resnet50": Published(
            url="https://dl.fbaipublicfiles.com/barlowtwins/ljng/resnet50.pth",
            about="Barlow Twins ResNet-50, 1000 epochs",
            source="facebookresearch/barlowtwins: README.md",
        ),
        "vicreg_resnet50": Published(
            url="https://dl.fbaipublicfiles.com/vicreg/resnet50.pth",
            about="VICReg ResNet-50",
            source="facebookresearch/vicreg: hubconf.py",
        ),
        "vicreg_resnet50w2": Published(
            url="https://dl.fbaipublicfiles.com/vicreg/resnet50x2.pth",
            about="VICReg ResNet-50 (2x)",
            source="facebookresearch/vicreg: hubconf.py",
        ),
        **{
            f"mae_{name}": Published(
                url=f"https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_{size}.pth",
                about=f"MAE ViT-{size[0].upper()}",
                source="facebookresearch/mae: README.md",
            )
            for name, size in (("vitb16", "base"), ("vitl16", "large"), ("vith14", "huge"))
        },
        "simsiam_resnet50_e100": Published(
            url="https://dl.fbaipublicfiles.com/simsiam/models/100ep/pretrain/checkpoint_0099.pth.tar",
            about="SimSiam ResNet-50, 100 epochs, batches of 512",
            source="facebookresearch/simsiam: README.md",
        ),
    }


def _torchvision() -> dict[str, Published]:
    """Trained with labels; the second recipe (v2) evaluates at 232 px."""
    rows = (
        ("resnet18", "resnet18-f37072fd.pth"), ("resnet34", "resnet34-b627a593.pth"),
        ("resnet50", "resnet50-0676ba61.pth"), ("resnet50_v2", "resnet50-11ad3fa6.pth"),
        ("resnet101", "resnet101-63fe2227.pth"), ("resnet101_v2", "resnet101-cd907fc2.pth"),
        ("resnet152", "resnet152-394f9c45.pth"), ("resnet152_v2", "resnet152-f82ba261.pth"),
    )  # fmt: skip
    return {
        f"torchvision:{name}": Published(
            url=f"{TORCHVISION}{file}",
            about=f"{name.removesuffix('_v2')} trained with labels, IMAGENET1K_{'V2' if '_v2' in name else 'V1'}",
            source="pytorch/vision: torchvision/models/resnet.py",
            sha256=file.removesuffix(".pth").rpartition("-")[2],
            preprocessing=replace(IMAGENET, resize=232) if "_v2" in name else None,
        )
        for name, file in rows
    }


PUBLISHED = _dissl() | _swav() | _dino() | _moco() | _further() | _torchvision()
"""Name → file."""

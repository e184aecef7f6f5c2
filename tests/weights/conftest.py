"""Networks of torchvision with random weights, and files that lay them out as public projects do.

Key names are those of the projects' own code and published files; momentum copies hold other numbers than the encoder,
so that a test sees which of them was taken.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from issl_profiling.torchvision_oracle import load_torchvision

State = dict[str, Tensor]
FIRST_OF_STAGES = 4
"""Place of layer1 among the children of torchvision's ResNet."""


def torchvision_resnet(name: str, **settings: Any) -> nn.Module:
    """In evaluation mode, without classifier, its batch-norms as if they had seen images."""
    try:
        models = load_torchvision().models
    except ImportError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, **settings)
    network.fc = nn.Identity()
    shake_norms(network)
    return network.eval()


def shake_norms(network: nn.Module) -> None:
    """Batch-norms as after training: no two layers and no two channels alike."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.uniform_(layer.weight, 0.3, 0.7)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)


@pytest.fixture(scope="session")
def resnet18() -> nn.Module:
    return torchvision_resnet("resnet18")


def behind(prefix: str, state: Mapping[str, Tensor], *, scale: float = 1.0) -> State:
    return {prefix + name: value * scale if value.is_floating_point() else value for name, value in state.items()}


def numbered(state: Mapping[str, Tensor]) -> State:
    """As the children of an nn.Sequential."""
    places = {"conv1": 0, "bn1": 1} | {f"layer{stage}": FIRST_OF_STAGES + stage - 1 for stage in range(1, 5)}
    split = {name: name.partition(".") for name in state}
    return {f"{places[first]}.{rest}": state[name] for name, (first, _, rest) in split.items()}


def some(*shape: int) -> Tensor:
    return torch.full(shape, 0.5)


OPTIMIZER = {"state": {0: {"momentum_buffer": some(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

FILES: dict[str, tuple[str, Callable[[State], Any]]] = {
    "torchvision": ("torchvision", lambda s: s | {"fc.weight": some(9, 512), "fc.bias": some(9)}),
    "backbone alone": ("torchvision", lambda s: s),
    "before torch 0.4.1": ("torchvision", lambda s: {k: v for k, v in s.items() if "num_batches" not in k}),
    "DataParallel": ("torchvision", lambda s: {"state_dict": behind("module.", s), "best_acc1": np.float64(71.5)}),
    "swav": (
        "swav",
        lambda s: (
            behind("module.", s)
            | {
                "module.projection_head.0.weight": some(8, 512),
                "module.projection_head.1.running_mean": some(8),
                "module.projection_head.3.weight": some(4, 8),
                "module.prototypes.weight": some(30, 4),
            }
        ),
    ),
    "swav with optimiser": (
        "swav",
        lambda s: {
            "epoch": 100,
            "optimizer": OPTIMIZER,
            "state_dict": behind("module.", s)
            | {"module.projection_head.0.weight": some(8, 512), "module.prototypes.prototypes0.weight": some(30, 4)},
        },
    ),
    "dino": (
        "dino",
        lambda s: {
            "student": behind("module.backbone.", s, scale=0.5) | {"module.head.mlp.0.weight": some(8, 512)},
            "teacher": behind("backbone.", s)
            | {"head.mlp.0.weight": some(8, 512), "head.last_layer.weight_g": some(9, 1)},
            "optimizer": OPTIMIZER,
            "epoch": 800,
            "args": argparse.Namespace(arch="resnet18", patch_size=16),
            "dino_loss": {"center": some(1, 9)},
        },
    ),
    "moco": (
        "moco",
        lambda s: {
            "epoch": 200,
            "arch": "resnet18",
            "state_dict": behind("module.encoder_q.", s)
            | {"module.encoder_q.fc.0.weight": some(512, 512), "module.encoder_q.fc.2.bias": some(128)}
            | behind("module.encoder_k.", s, scale=0.5)
            | {"module.queue": some(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)},
            "optimizer": OPTIMIZER,
        },
    ),
    "moco v3": (
        "moco_v3",
        lambda s: {
            "epoch": 1000,
            "state_dict": behind("module.base_encoder.", s)
            | {"module.base_encoder.fc.0.weight": some(16, 512), "module.base_encoder.fc.1.running_var": some(16)}
            | behind("module.momentum_encoder.", s, scale=0.5)
            | {"module.predictor.0.weight": some(16, 16)},
            "scaler": {"scale": 65536.0},
        },
    ),
    "vissl": (
        "vissl",
        lambda s: {
            "phase_idx": 99,
            "classy_state_dict": {
                "base_model": {
                    "model": {
                        "trunk": behind("_feature_blocks.", s),
                        "heads": {"0.clf.0.weight": some(8, 512), "1.clf.weight": some(4, 8)},
                    },
                    "meta": {"trunk": {}},
                },
                "optimizer": OPTIMIZER,
                "loss": {"queue": some(3)},
            },
        },
    ),
    "barlow twins": (
        "joint_embedding",
        lambda s: {
            "epoch": 1000,
            "model": behind("module.backbone.", s)
            | {"module.projector.0.weight": some(8, 512), "module.bn.running_mean": some(8)},
            "optimizer": OPTIMIZER,
        },
    ),
    "vicreg": (
        "joint_embedding",
        lambda s: {"model": behind("module.backbone.", s) | {"module.projector.0.weight": some(8, 512)}, "epoch": 3},
    ),
    "simsiam": (
        "joint_embedding",
        lambda s: {
            "state_dict": behind("module.encoder.", s)
            | {"module.encoder.fc.0.weight": some(512, 512), "module.predictor.0.weight": some(8, 512)}
        },
    ),
    "simclr": (
        "joint_embedding",
        lambda s: {
            "arch": "resnet18",
            "state_dict": behind("backbone.", s)
            | {"backbone.fc.0.weight": some(512, 512), "backbone.fc.2.weight": some(128, 512)},
        },
    ),
    "byol": (
        "joint_embedding",
        lambda s: (
            behind("target_encoder.net.", s, scale=0.5)
            | behind("online_encoder.net.", s)
            | {"online_encoder.projector.0.weight": some(8, 512), "online_predictor.0.weight": some(8, 8)}
        ),
    ),
    "solo-learn": (
        "solo_learn",
        lambda s: {
            "pytorch-lightning_version": "1.9.0",
            "hyper_parameters": {"method": "byol"},
            "state_dict": behind("momentum_backbone.", s, scale=0.5)
            | behind("backbone.", s)
            | {"classifier.weight": some(10, 512), "classifier.bias": some(10), "projector.0.weight": some(8, 512)},
            "callbacks": {},
            "lr_schedulers": [],
        },
    ),
    "byol for torch": (
        "numbered",
        lambda s: {
            "online_network_state_dict": behind("encoder.", numbered(s)) | {"projetion.net.0.weight": some(8, 512)},
            "target_network_state_dict": behind("encoder.", numbered(s), scale=0.5),
            "optimizer_state_dict": OPTIMIZER,
        },
    ),
    "lightly": (
        "numbered",
        lambda s: {
            "state_dict": behind("backbone.", numbered(s))
            | {"projection_head.layers.0.weight": some(8, 512)}
            | behind("backbone_momentum.", numbered(s), scale=0.5)
        },
    ),
    "sequential alone": ("numbered", numbered),
}
"""A project → (the layout that must be found, what its file holds, from a plain ResNet's state)."""


def features(network: nn.Module, size: int = 64, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return network.eval()(torch.randn(count, 3, size, size, generator=generator))

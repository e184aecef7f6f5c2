"""Published ways of probing, by name: ``probes: [{protocol: swav}]`` has their settings, and says so in its results.

A protocol is a probe with every setting that its source states. Keys beside ``protocol`` take the place of its own.
What a published protocol does and this engine does not is in ``differs``. One thing differs in all of them:
hyper-parameters, and the moment to stop, are never chosen on the images that a result is of. Several of the sources do
choose so (the best epoch on the validation split that is reported); figures here are then a little lower than theirs.

``crop`` and ``resize`` of test images are the recipe's own (evaluation); ``test_images`` says what the source takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from issl_engine.mistakes import Mistake, did_you_mean
from issl_engine.probing.config import Network


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One published protocol."""

    settings: Mapping[str, Any]
    """Keys of the probe, with its name."""
    what: str
    """In words."""
    source: str
    """Where each setting is from."""
    differs: str = ""
    """What the source does otherwise."""
    network: Network | None = None
    """Which network, where the objective has an EMA teacher; None for any."""
    test_images: str = "256 px, centre crop 224 px"


_CROPS = {"name": "linear_augmented", "area": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5, "normalise": "none"}
_TOP = {"metrics": ("top1", "top5")}
_HEAD = "the head starts at zero rather than from a normal draw of deviation 0.01, and its rate falls at each step"

PROTOCOLS: dict[str, Protocol] = {
    "issl": Protocol(
        settings={
            "name": "linear_sgd",
            "lrs": (0.24, 0.8, 2.4, 8.0),
            "weight_decays": (1e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4),
            "batch_norm": (True, False),
            "epochs": 100,
            "batch_size": 2048,
            **_TOP,
        },
        what="ImageNet, features of one centre crop: SGD over rate, weight decay and batch-norm",
        source="Dubois et al. 2022 (arXiv 2209.06235): the authors' github.com/YannDubs/vissl, tools/linear_eval.py "
        "(cosine, momentum 0.9, rate x batch / 256) and bin/eval_nlprun.sh (grid: rates 0.03 to 1 per 256 images)",
        differs="without batch-norm features are divided by one number, their root mean square; LARS, which the "
        "authors also tried, is left out; the authors' grid is no full product, and they watch the test split; their "
        "fork also has an evaluation on crops (bin_final/augeval.sh), and does not say which gave a published figure",
    ),
    "issl_tinyimagenet": Protocol(
        settings={
            "name": "linear_sgd",
            "lrs": (0.3,),
            "weight_decays": (1e-4, 1e-5, 1e-6),
            "batch_norm": (False,),
            "epochs": 100,
            "batch_size": 256,
        },
        what="TinyImageNet, features of one crop: SGD over weight decay",
        source="Dubois et al. 2022: the authors' github.com/YannDubs/Invariant-Self-Supervised-Learning, "
        "bin/tinyimagenet/table1_distillation.sh (weight decays), config/optimizer/SGD_w1e-4.yaml (rate 0.3)",
        differs="features are divided by one number, their root mean square",
        test_images="64 px",
    ),
    "issl_transfer": Protocol(
        settings={
            "name": "logistic",
            "Cs": (1e-3, 1e-2, 1e-1, 1.0, 10.0),
            "metrics": ("top1", "mean_per_class", "top5"),
        },
        what="other data sets, features of one centre crop: logistic regression over C",
        source="Dubois et al. 2022: the authors' github.com/YannDubs/vissl, tools/linear_eval.py --is-sklearn "
        "--is-validation (C from 1e-3 to 10, a tenth of the training images held out)",
        differs="C is a grid rather than five log-uniform draws, features are standardised rather than scaled to 0 to "
        "1, and the better of logistic regression and a linear SVM is not taken: this is the former",
    ),
    "swav": Protocol(
        settings={
            **_CROPS,
            "lrs": (0.3,),
            "weight_decays": (1e-6,),
            "epochs": 100,
            "batch_size": 256,
            **_TOP,
        },
        what="ImageNet, random crops and flips: one rate",
        source="Caron et al. 2020 (arXiv 2006.09882): github.com/facebookresearch/swav, eval_linear.py (32 images on "
        "each of 8 GPUs)",
        differs=f"{_HEAD}; the last epoch is reported, where the authors' script prints the best on the validation "
        "split; the authors' deviation of red is 0.228 (views.std)",
    ),
    "dino": Protocol(
        settings={
            **_CROPS,
            "lrs": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
            "weight_decays": (0.0,),
            "epochs": 100,
            "batch_size": 1024,
            **_TOP,
        },
        what="ImageNet, random crops and flips of the EMA teacher: rates around the published one",
        source="Caron et al. 2021 (arXiv 2104.14294): github.com/facebookresearch/dino, eval_linear.py (rate 0.001 per "
        "256 images, to be tuned for each checkpoint; 128 images on each of 8 GPUs)",
        differs=f"{_HEAD}; ViTs have the encoder's one representation, not the class tokens of their last four blocks",
        network="teacher",
    ),
    "dino_knn": Protocol(
        settings={"name": "knn", "ks": (10, 20, 100, 200), "temperatures": (0.07,), **_TOP},
        what="ImageNet, nearest neighbours of the EMA teacher",
        source="Caron et al. 2021: github.com/facebookresearch/dino, eval_knn.py",
        differs="held-out images choose among the four k, where the authors print all (20 is usually best)",
        network="teacher",
        test_images="256 px (bicubic), centre crop 224 px",
    ),
    "lightly": Protocol(
        settings={
            **_CROPS,
            "lrs": (0.1,),
            "weight_decays": (0.0,),
            "epochs": 90,
            "batch_size": 256,
            **_TOP,
        },
        what="ImageNet, random crops and flips: one rate, SimCLR's settings",
        source="github.com/lightly-ai/lightly, benchmarks/imagenet/resnet50/linear_eval.py and "
        "lightly/utils/benchmarking/linear_classifier.py (rate 0.1 x batch / 256)",
        differs="the head starts at zero; the last epoch is reported, where the script prints the best",
    ),
    "lightly_knn": Protocol(
        settings={"name": "knn", "ks": (200,), "temperatures": (0.1,), **_TOP},
        what="ImageNet, 200 nearest neighbours",
        source="github.com/lightly-ai/lightly, benchmarks/imagenet/resnet50/knn_eval.py (Wu et al. 2018)",
    ),
}


def protocol_named(name: object) -> Protocol:
    """Raises Mistake for a name that is none."""
    if not isinstance(name, str) or name not in PROTOCOLS:
        known = list(PROTOCOLS)
        raise Mistake(
            f"unknown protocol '{name}'{did_you_mean(str(name), known)} (one of: {', '.join(known)}); see 'issl-engine "
            "list protocols'"
        )
    return PROTOCOLS[name]


def with_protocol(probe: Any) -> Any:
    """The keys of a probe with those of the protocol that it names laid under them; anything else as it is.

    Raises Mistake for an unknown protocol, and for the name of another probe beside it.
    """
    if not isinstance(probe, Mapping) or not probe.get("protocol"):
        return probe
    settings = protocol_named(probe["protocol"]).settings
    if probe.get("name", settings["name"]) != settings["name"]:
        raise Mistake(
            f"protocol {probe['protocol']} is the probe {settings['name']}, and name is {probe['name']}; leave one out"
        )
    return {**settings, **probe}

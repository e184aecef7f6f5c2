"""What a measure says of a representation, in one sentence."""

from collections.abc import Callable

from issl_engine.diagnosis.measure import Diagnosis
from issl_engine.training.watch.representation_alarm import CONSTANT_STD, FEW_DIRECTIONS_SHARE, NO_INVARIANCE

Sentence = Callable[[float, Diagnosis], str]


def what_it_says(name: str, found: Diagnosis) -> str:
    """Of a measure of the diagnosis; empty for one that has no sentence."""
    sentence = SENTENCES.get(name)
    return "" if sentence is None else sentence(found.measures[name], found)


def _choice(*steps: tuple[float, str], otherwise: str) -> Sentence:
    """The text of the first limit that the value is below."""

    def choose(value: float, _: Diagnosis) -> str:
        return next((text for limit, text in steps if value < limit), otherwise)

    return choose


def _directions(value: float, found: Diagnosis) -> str:
    text = f"features vary in about {value:.0f} of {found.dim} dimensions"
    return text + (": dimensional collapse" if value < FEW_DIRECTIONS_SHARE * found.optimum["effective_rank"] else "")


def _entropy(value: float, found: Diagnosis) -> str:
    share = value / found.optimum["marginal_entropy"]
    if share > 0.95:
        return "classes are used about alike, as maximality wants"
    return f"{share:.0%} of the largest: some classes are used more than others"


SENTENCES: dict[str, Sentence] = {
    "rank_me": lambda value, found: f"about {value:.0f} of {found.dim} dimensions are used, the mean's included",
    "effective_rank": _directions,
    "alpha_req": _choice(
        (0.5, "a flat spectrum: many directions of like weight"),
        (1.5, "near 1, where linear probes were found to do best"),
        otherwise="a steep spectrum: few directions carry the features",
    ),
    "feature_std": _choice(
        (CONSTANT_STD, "all images look the same to it: total collapse"),
        (0.3, "directions of different images are close together"),
        otherwise="images point in different directions",
    ),
    "uniformity": _choice(
        (-2.0, "images are spread over the sphere"),
        (-0.5, "images crowd on a part of the sphere"),
        otherwise="images lie close together on the sphere",
    ),
    "alignment": _choice(
        (0.3, "views of an image nearly coincide"),
        (1.0, "views of an image are related"),
        otherwise="views of an image point apart",
    ),
    "invariance": _choice(
        (0.1, "views of an image are far closer than different images"),
        (0.5, "views of an image are closer than different images"),
        (NO_INVARIANCE, "augmentations move features nearly as far as another image does"),
        otherwise="augmentations move features as far as another image does: no invariance",
    ),
    "lidar": lambda value, found: f"about {value:.0f} directions tell images apart, whatever the view",
    "etf_cosine": lambda value, found: "mean angle between the means of the labels' classes",
    "etf_angle_std": _choice(
        (0.1, "the labels' classes are about equally far apart"),
        otherwise="some of the labels' classes are closer than others",
    ),
    "etf_distance": _choice(
        (0.3, "the labels' classes are close to a simplex ETF"),
        otherwise="the labels' classes are no simplex ETF",
    ),
    "variability_collapse": lambda value, found: f"classes explain {1 - value:.0%} of the directions that they span",
    "image_etf_cosine": lambda value, found: "mean angle between images, each the mean of its views",
    "image_etf_angle_std": _choice(
        (0.1, "images are about equally far apart"), otherwise="some images are closer than others"
    ),
    "image_etf_distance": _choice(
        (0.3, "images are close to a simplex ETF, the theory's optimum"), otherwise="images are no simplex ETF"
    ),
    "image_variability_collapse": lambda value, found: f"{value:.0%} of the whitened spread is due to augmentations",
    "held_out_loss": lambda value, found: "the training loss on these images, in evaluation mode",
    "marginal_entropy": _entropy,
    "marginal_entropy_share": lambda value, found: "the same, as a share of ln C",
    "used_classes_share": lambda value, found: f"{value:.0%} of the classes that these images could use are used",
}
"""Measure → what its value says."""

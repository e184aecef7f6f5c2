"""What an experiment's numbers say about the theory, in sentences that the numbers decide."""

from issl_engine.theory.etf import simplex_etf
from issl_engine.theory.experiments.base import Point
from issl_engine.theory.experiments.coarseness import CoarsenessConfig
from issl_engine.theory.labelings import least_worst_error
from issl_engine.theory.results import summaries
from issl_engine.theory.schema import TheoryRecipe


def verdict(recipe: TheoryRecipe, points: list[Point]) -> list[str]:
    """One sentence or more, the theory's number beside the measured ones."""
    name = recipe.experiment.name
    if name == "dimension":
        return _dimension(recipe, points)
    if name == "heads":
        return _heads(recipe, points)
    if name == "coarseness":
        return _coarseness(recipe, points)
    return _ceiling(recipe, points)


def _dimension(recipe: TheoryRecipe, points: list[Point]) -> list[str]:
    needed = recipe.world.num_finest - 1
    means = {
        (series, x): found.mean for (series, x, metric), found in summaries(points).items() if metric == "worst_error"
    }
    lines = []
    for series in dict.fromkeys(series for series, _ in means):
        below = [(x, mean) for (name, x), mean in means.items() if name == series and x < needed]
        above = [(x, mean) for (name, x), mean in means.items() if name == series and x >= needed]
        parts = []
        if below:
            x, mean = max(below)
            floor = 100 * least_worst_error(recipe.world.num_finest, int(x))
            parts.append(f"{mean:.1f} % at d = {x:g} (floor by theory {floor:.1f} %)")
        if above:
            x, mean = min(above)
            parts.append(f"{mean:.1f} % at d = {x:g} (theory 0 % from d = C - 1 = {needed} on)")
        lines.append(f"{series}: worst invariant task {', '.join(parts)}")
    return lines


def _heads(recipe: TheoryRecipe, points: list[Point]) -> list[str]:
    means = {key: found.mean for key, found in summaries(points).items()}
    series = list(dict.fromkeys(name for name, _, _ in means))
    lines = []
    for x in sorted({x for _, x, _ in means}):
        for probe in ("linear", "mlp"):
            metric = f"worst_error_{probe}"
            best = min(series, key=lambda name: means[name, x, metric])
            listed = ", ".join(f"{name} {means[name, x, metric]:.1f} %" for name in series)
            lines.append(f"d = {x:g}, {probe} probe, worst task: {listed}; lowest: {best}")
    return lines


def _coarseness(recipe: TheoryRecipe, points: list[Point]) -> list[str]:
    experiment = recipe.experiment
    assert isinstance(experiment, CoarsenessConfig)
    means = {(series, x): found.mean for (series, x, _), found in summaries(points).items()}
    lines = []
    for series in dict.fromkeys(name for name, _ in means):
        enough = [x for (name, x), mean in means.items() if name == series and mean >= experiment.accuracy]
        reached = f"{min(enough):g}" if enough else f"more than {max(experiment.labelled_images)}"
        lines.append(f"{series}: {experiment.accuracy:g} % with {reached} labelled images")
    return lines


def _ceiling(recipe: TheoryRecipe, points: list[Point]) -> list[str]:
    classes = recipe.world.num_finest
    cosine = float((simplex_etf(classes)[0] * simplex_etf(classes)[1]).sum())
    means = {(series, metric): found.mean for (series, _, metric), found in summaries(points).items()}
    return [
        f"{series}: cosine of two images of a class {means[series, 'cosine_within']:.3f} (theory 1), of two classes on "
        f"average {means[series, 'cosine_between_mean']:.3f}, at most {means[series, 'cosine_between_max']:.3f} "
        f"(theory {cosine:.3f})"
        for series in dict.fromkeys(series for series, _ in means)
    ]

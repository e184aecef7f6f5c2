"""What a search says of itself: how equal its arms are, what chose, and which choices lie at an edge."""

from collections.abc import Mapping, Sequence

from issl_engine.search.plan import SearchPlan
from issl_engine.search.ranking import ArmResult


def fairness(plan: SearchPlan, results: Sequence[ArmResult]) -> list[str]:
    """Sentences: trials, seeds, epochs and images of the arms, and the images that judged."""
    counts = {result.arm: len(result.ranked) for result in results}
    each = _equal_or_each(counts, "{} trials")
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''} {list(plan.seeds)}"
    recipes = {result.arm: plan.file.arms[result.arm] for result in results}
    epochs = _equal_or_each({arm: f"{recipe.training.epochs:g}" for arm, recipe in recipes.items()}, "{} epochs")
    sources = {recipe.source.model_dump_json() for recipe in recipes.values()}
    images = "the same images" if len(sources) == 1 else "different images (each arm its own source)"
    lines = [f"each arm: {each} with {seeds}, {epochs} on {images}"]
    judged = next((one.outcome for result in results for one in result.ranked if one.outcome.score), None)
    if judged is not None:
        lines.append(
            f"judged by {judged.column.title} on {judged.num_images} held-out training images a seed, which no probe "
            "was fitted on; pretraining saw them without labels; the test split was not read"
        )
    return lines


def _equal_or_each(of: Mapping[str, object], unit: str) -> str:
    values = set(of.values())
    if len(values) == 1:
        return unit.format(values.pop())
    return unit.format("; ".join(f"{arm} {value}" for arm, value in of.items()))


def at_edges(result: ArmResult) -> str:
    """Such as "temperature 0.05 at the low end of 0.05 to 0.5 (log)"; "none" where no choice lies at an edge."""
    ranges = {axis.key: axis.range.describe() for axis in result.axes}
    said = [
        f"{key} is outside {ranges[key]}" if edge == "outside" else f"{key} is at the {edge} end of {ranges[key]}"
        for key, edge in result.edges.items()
    ]
    return "; ".join(said) or "none"

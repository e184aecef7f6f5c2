"""The images of a recipe, read once for all arms and seeds that share them."""

from dataclasses import replace

from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, no_images
from issl_engine.sources.images.digests import listing_digest


def load_dataset(recipe: Recipe) -> Dataset:
    """The recipe's source, and its share of it for pretraining. One source is held at a time. Raises SourceError.

    Where the recipe reports on held-out images the test split is empty: nothing that follows can read it.
    """
    key = f"{recipe.evaluation.report_on} {recipe.source.model_dump_json()}"
    share = recipe.training.image_share
    if key not in _datasets:
        _datasets.clear()
        dataset = recipe.source.load()
        whole = dataset if recipe.evaluation.report_on == "test" else replace(dataset, test=no_images())
        _datasets[key] = {1.0: whole}
    of_share = _datasets[key]
    if share not in of_share:
        of_share[share] = of_share[1.0].with_share(share)
    return of_share[share]


def content_of(dataset: Dataset) -> str:
    """The dataset's fingerprint: what results say that they were made of, wherever the images lie."""
    if not _last or _last[0][0] is not dataset:
        _last[:] = [(dataset, listing_digest(dataset))]
    return _last[0][1]


_datasets: dict[str, dict[float, Dataset]] = {}
"""Source → share for pretraining → the images."""
_last: list[tuple[Dataset, str]] = []
"""The dataset whose fingerprint was taken last, since that can take seconds."""

"""issl-engine probe: what one frozen encoder is worth."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from issl_engine.commands.options import SEED, json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.mistakes import Mistake

if TYPE_CHECKING:
    from issl_engine.probing.config import EvaluationConfig
    from issl_engine.recipe.schema import Recipe
    from issl_engine.recipe.suite import Suite
    from issl_engine.weights.open_encoder import OpenedEncoder

OF_SUITE = "suite."
"""What the overrides of a suite's keys begin with."""


@click.command()
@click.argument("reference")
@overrides_argument
@click.option("--suite", metavar="NAME", help="A packaged suite (issl-engine list suites) or a file of your own.")
@click.option(
    "--protocol", "protocols", multiple=True, metavar="NAME",
    help="A published protocol (issl-engine list protocols) instead of the recipe's or suite's probes; several times "
    "for several.",
)  # fmt: skip
@click.option(
    "--recipe", metavar="RECIPE",
    help="Recipe with the source and the probes; default the checkpoint's own. Images are prepared for the encoder.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Folder of the results; default suite_NAME in the arm's folder. Without --suite none is written.",
)  # fmt: skip
@click.option(
    "--network", type=click.Choice(["student", "teacher", "both"]),
    help="Which network of a checkpoint whose objective has an EMA teacher; default as evaluation.network says.",
)  # fmt: skip
@click.option("--seed", type=SEED, help="Seed of the held-out split and of the probes; default the checkpoint's, or 0.")
@click.option(
    "--cache/--no-cache", default=True, show_default=True, help="Keep features on disk, and use those that are kept."
)
@click.option(
    "--cache-type", type=click.Choice(["float32", "float16"]), default="float32", show_default=True,
    help="Type of the kept features; float16 rounds them to 11 bits.",
)  # fmt: skip
@json_option
def probe(
    reference: str, overrides: tuple[str, ...], suite: str | None, protocols: tuple[str, ...],
    recipe: str | None, out: Path | None,
    network: Literal["student", "teacher", "both"] | None, seed: int | None, cache: bool,
    cache_type: Literal["float32", "float16"], as_json: bool,
) -> None:  # fmt: skip
    """Probe the encoder REFERENCE: a checkpoint folder, the folder of a run's arm and seed (its newest one), a file of
    weights, or a name of 'issl-engine list weights'.

    Source, preprocessing and probes are those of the checkpoint's own recipe. KEY=VALUE changes its keys. A suite names
    what else to evaluate: other sources, corrupted images, fine-tuning. suite.KEY=VALUE changes its keys. Results that
    are there already are not made again. Features are kept in $ISSL_ENGINE_CACHE/features
    (~/.cache/issl-engine/features).

    \b
    Examples:
      issl-engine probe runs/swav_compare/dissl/seed0
      issl-engine probe runs/swav_compare/dissl/seed0 probes='[{name: knn}]'
      issl-engine probe runs/swav_compare/dissl/seed0 --suite robustness
      issl-engine probe runs/swav_compare/dissl/seed0 --protocol swav
      issl-engine probe runs/mine/dino/seed0 --network both
      issl-engine probe swav_800ep_pretrain.pth.tar --recipe imagenet/e100
      issl-engine probe runs/mine/dissl/seed0 --suite transfer suite.sources.2.source.folder=MNIST
    """
    with reserved_stdout():
        import torch

        from issl_engine.probing.features.cache import FeatureCache, default_feature_folder
        from issl_engine.probing.judging.results import results_to_json
        from issl_engine.run.suite.files import suite_folder, write_outcome
        from issl_engine.run.suite.run import run_suite
        from issl_engine.run.suite.subject import Subject
        from issl_engine.run.suite.table import print_suite
        from issl_engine.weights.open_encoder import open_encoder

        chosen = _suite(suite, overrides, protocols)
        opened = open_encoder(reference)
        own = _recipe(opened, recipe, overrides, chosen)
        folder = out or (suite_folder(reference, chosen) if suite else None)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        features = FeatureCache(folder=default_feature_folder(), stored=cache_type) if cache else None
        subjects = [
            Subject.of(chosen, one, own, seed=_seed(seed, one), device=device, cache=features)
            for one in _networks(opened, reference, network, chosen.evaluation or own.evaluation)
        ]
        outcome = run_suite(
            chosen, subjects, own.source, folder=folder,
            on_part=write_outcome(
                folder, encoder=opened.name, suite=chosen.name, command=shlex.join(["issl-engine", *sys.argv[1:]])
            ),
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(results_to_json(outcome.results), indent=1))
        return
    print_suite(outcome, f"{opened.name}: {chosen.name}" if suite else opened.name)
    if folder is not None:
        click.echo(f"results: {folder / 'probes.csv'}")


def _suite(name: str | None, overrides: tuple[str, ...], protocols: tuple[str, ...]) -> "Suite":
    """The named suite with its overrides; without a name, the recipe's probes on its own source. Protocols take the
    place of its probes."""
    from issl_engine.recipe.load import load_suite
    from issl_engine.recipe.suite import Suite

    own = [override for override in overrides if override.startswith(OF_SUITE)]
    if name is not None:
        overrides = tuple(override.removeprefix(OF_SUITE) for override in own)
        instead = ["protocol=", f"probes={_probes_of(protocols)}"] if protocols else []
        return load_suite(name, [*overrides, *instead])
    if own:
        raise Mistake(f"command line: {own[0]}: there is no suite to change; name one with --suite")
    probes = _probes_of(protocols) if protocols else None
    return Suite.model_validate({"name": "recipe", "probes": probes})


def _probes_of(protocols: tuple[str, ...]) -> list[dict[str, str]]:
    """Raises Mistake for a protocol that is not known."""
    from issl_engine.probing.protocols import protocol_named

    for name in protocols:
        protocol_named(name)
    return [{"protocol": name} for name in protocols]


def _recipe(opened: "OpenedEncoder", name: str | None, overrides: tuple[str, ...], suite: "Suite") -> "Recipe":
    """What says which images to probe on, with its overrides."""
    from issl_engine.recipe.load import change_recipe, load_recipe

    own = [override for override in overrides if not override.startswith(OF_SUITE)]
    for override in own:
        key = override.partition("=")[0].partition(".")[0].strip()
        if key in ("probes", "evaluation") and getattr(suite, key) is not None:
            raise Mistake(
                f"command line: {override}: suite '{suite.name}' has {key} of its own; write {OF_SUITE}{override}"
            )
    if name is not None:
        named = next(iter(load_recipe(name).arms.values()))
        return change_recipe(named.prepared_as(opened.preprocessing), own)
    if opened.recipe is None:
        raise Mistake(
            f"{opened.name}: these weights come without a recipe, so nothing says on which images to probe them; name "
            "one with --recipe"
        )
    return change_recipe(opened.recipe, own)


def _networks(
    opened: "OpenedEncoder", reference: str, asked: Literal["student", "teacher", "both"] | None,
    evaluation: "EvaluationConfig",
) -> list["OpenedEncoder"]:  # fmt: skip
    """The networks to probe: those asked for on the command line, else those that the evaluation names."""
    from issl_engine.weights.open_encoder import open_encoder

    if asked is None and evaluation.network == "student":
        return [opened]  # an exported teacher is probed as what it is
    wanted = evaluation if asked is None else evaluation.model_copy(update={"network": asked})
    return [opened if name == opened.network else open_encoder(reference, name) for name in wanted.networks]


def _seed(seed: int | None, opened: "OpenedEncoder") -> int:
    if seed is not None:
        return seed
    return 0 if opened.seed is None else opened.seed

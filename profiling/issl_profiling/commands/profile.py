"""issl-engine profile: where the time of a training step goes."""

import json
from dataclasses import asdict

import click

from issl_engine.commands.options import json_option, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@recipe_argument
@overrides_argument
@click.option("--arm", help="Which arm of the recipe; default the first.")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Steps to time, after three.")
@json_option
def profile(recipe: str, overrides: tuple[str, ...], arm: str | None, steps: int, as_json: bool) -> None:
    """Time the training step of RECIPE and its parts: waiting for data, encoder, objective, backward and optimiser.

    \b
    Example:
      issl-engine profile swav_compare --arm dissl
    """
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe

        chosen = next(iter(load_recipe(recipe, overrides, [arm] if arm else None).arms.values()))

        from issl_engine.environment import collect_environment, device_summary
        from issl_engine.ranks import start_ranks
        from issl_engine.run.dataset import load_dataset
        from issl_profiling.step_time import measure_step

        measured = measure_step(chosen, load_dataset(chosen), start_ranks(), steps=steps)
        environment = collect_environment()
    if as_json:
        click.echo(json.dumps({"milliseconds": asdict(measured), "environment": environment}, indent=1))
        return
    for name, milliseconds in measured.parts.items():
        click.echo(f"{name:<30}{milliseconds:>10.1f} ms {milliseconds / measured.step:>6.0%}")
    click.echo(f"{'step':<30}{measured.step:>10.1f} ms")
    views_per_second = measured.images_per_second * measured.views_per_image
    click.echo(
        f"{measured.images_per_second:.0f} images/s, {views_per_second:.0f} views/s on {device_summary(environment)}"
    )

"""issl-engine plan: what a recipe would take on many GPUs, by a model; and the model checked on CPU ranks."""

import json
from dataclasses import asdict
from typing import Any

import click

from issl_engine.commands.options import json_option, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.mistakes import Mistake

DEFAULT_GPUS = "8,64,512,4096"


@click.command()
@recipe_argument
@overrides_argument
@click.option("--arm", "arms", multiple=True, help="Only this arm of the recipe; may be repeated; default all.")
@click.option("--gpus", default=DEFAULT_GPUS, show_default=True, metavar="N,N", help="Numbers of GPUs, comma between.")
@click.option("--gpu", default="h100", show_default=True, metavar="NAME", help="h100 or h200 (SXM, eight per node).")
@click.option("--network", default=400.0, show_default=True, metavar="GBIT", help="Gbit/s of each GPU's network card.")
@click.option("--mfu", default=0.1, show_default=True, help="Assumed model FLOP utilisation, 0 to 1.")
@click.option("--overlap", default=0.0, show_default=True, help="Assumed share of gradients' exchange that is hidden.")
@click.option(
    "--images-per-gpu", type=click.IntRange(1), help="Batch per GPU and step; default the recipe's shared by all."
)
@click.option("--images", type=click.IntRange(1), help="Images of the source; default those that are here.")
@click.option("--price", type=click.FloatRange(0), help="Price per GPU hour; without it no cost is printed.")
@click.option("--check", is_flag=True, help="Instead, run 1, 2 and 4 CPU ranks and compare the model with them.")
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True, help="Steps that --check times.")
@json_option
def plan(
    recipe: str, overrides: tuple[str, ...], arms: tuple[str, ...], gpus: str, gpu: str, network: float, mfu: float,
    overlap: float, images_per_gpu: int | None, images: int | None, price: float | None, check: bool, steps: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Predict memory, step time, scaling and days of RECIPE on many GPUs, by counted work and data-sheet figures.

    Nothing of it is measured. --check runs the first arm (or --arm) on 1, 2 and 4 CPU ranks and prints predicted beside
    measured: step time, bytes sent, activations and the optimiser's memory.

    \b
    Examples:
      issl-engine plan imagenet/swav_compare --images 1281167 --gpus 8,64,512 --gpu h200
      issl-engine plan swav_compare --check --arm simclr
    """
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe

        chosen = load_recipe(recipe, overrides, arms or None).arms
        if check:
            from issl_profiling.plan.check import check_arm, render_check
            from issl_profiling.results_file import MADE_BY, made_by_this_run

            arm = next(iter(chosen))
            compared = check_arm(recipe, overrides, arm, chosen[arm], steps=steps)
            made_by = {column: value for column, value in made_by_this_run().items() if column in MADE_BY}
            text = (
                f"{render_check(arm, compared)}\non {made_by['device']}, commit {made_by['commit']}, {made_by['date']}"
            )
            found: dict[str, Any] = {"arm": arm, "compared": [asdict(one) for one in compared], **made_by}
        else:
            from issl_profiling.plan.arm_plan import plan_arm
            from issl_profiling.plan.assumptions import Assumptions
            from issl_profiling.plan.hardware import gpu_named
            from issl_profiling.plan.table import assumptions_text, record, render

            kind = gpu_named(gpu)
            assumed = Assumptions(mfu=mfu, overlap=overlap, network_gbit=network)
            plans = [
                plan_arm(
                    arm, one, gpus=_numbers(gpus), gpu=kind, assumed=assumed, images=images,
                    images_per_gpu=images_per_gpu, price=price,
                )
                for arm, one in chosen.items()
            ]  # fmt: skip
            text = "".join(render(one) for one in plans) + assumptions_text(kind, assumed)
            found = {
                "gpu": asdict(kind), "assumptions": asdict(assumed), "arms": [record(one) for one in plans],
                "measured": False,
            }  # fmt: skip
    click.echo(json.dumps(found, indent=1) if as_json else text)


def _numbers(text: str) -> tuple[int, ...]:
    """``8,64`` → (8, 64). Raises Mistake."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise Mistake(f"--gpus is {text!r}; it must be whole numbers above 0 with commas between, such as 8,64")
    return tuple(dict.fromkeys(int(part) for part in parts))

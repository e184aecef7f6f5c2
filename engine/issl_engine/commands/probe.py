"""issl-engine probe: what one frozen encoder is worth."""

import json
from pathlib import Path

import click

from issl_engine.commands.options import json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@overrides_argument
@click.option("--seed", type=int, help="Seed of the held-out split and of the probes; default the checkpoint's.")
@json_option
def probe(checkpoint: Path, overrides: tuple[str, ...], seed: int | None, as_json: bool) -> None:
    """Probe the encoder of CHECKPOINT: a checkpoint folder, or the folder of a run's arm and seed (its newest one).

    Source, preprocessing and probes are those of the checkpoint's own recipe; KEY=VALUE changes them.

    \b
    Examples:
      issl-engine probe runs/swav_compare/dissl/seed0
      issl-engine probe runs/swav_compare/dissl/seed0 probes='[{name: knn}]'
    """
    with reserved_stdout():
        import torch

        from issl_engine.experiment import load_dataset, probe_encoder
        from issl_engine.probing.results import results_to_json
        from issl_engine.recipe.load import change_recipe
        from issl_engine.report.table import print_probe_results
        from issl_engine.weights.open_encoder import open_encoder

        opened = open_encoder(str(checkpoint))
        assert opened.recipe is not None
        assert opened.seed is not None
        recipe = change_recipe(opened.recipe, overrides)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        results = probe_encoder(
            opened.encoder.to(device),
            recipe,
            load_dataset(recipe),
            seed=opened.seed if seed is None else seed,
            device=device,
        )
    if as_json:
        click.echo(json.dumps(results_to_json(results), indent=1))
    else:
        print_probe_results(results)

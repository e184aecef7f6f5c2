"""issl-engine list: the names that a recipe may use."""

import inspect
import json
from collections.abc import Callable

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout

Names = dict[str, str]
"""Name → what it is, in one line."""


@click.command("list")
@click.argument(
    "kind",
    type=click.Choice(
        [
            *("recipes", "suites", "objectives", "regularizers", "encoders", "sources", "probes", "optimizers"),
            "protocols",
            *("weights", "layouts", "formats"),
        ]
    ),
)
@json_option
def list_names(kind: str, as_json: bool) -> None:
    """List packaged recipes and suites, components that a recipe may name, or what is known of public weights.

    Protocols are published ways of probing; a recipe, a suite and 'issl-engine probe' take their names.
    Of public weights these are the published names, the layouts of files that are read, and the formats that are
    written.

    \b
    Examples:
      issl-engine list recipes
      issl-engine list objectives --json
    """
    with reserved_stdout():
        names = _READERS[kind]()
    if as_json:
        click.echo(json.dumps(names, indent=1, ensure_ascii=False))
        return
    width = max((len(name) for name in names), default=0)
    for name, text in names.items():
        click.echo(f"{name:<{width}}  {text}".rstrip())


def _recipes() -> Names:
    from issl_engine.recipe.locate import packaged_recipes

    return packaged_recipes()


def _suites() -> Names:
    from issl_engine.recipe.locate import packaged_suites

    return packaged_suites()


def _objectives() -> Names:
    import issl_engine.objectives as package
    from issl_engine.objectives.base import ObjectiveConfig
    from issl_engine.variants import variants

    return _first_sentences(variants(package, ObjectiveConfig))


def _regularizers() -> Names:
    import issl_engine.regularizers as package
    from issl_engine.regularizers.base import RegularizerConfig
    from issl_engine.variants import variants

    return _first_sentences(variants(package, RegularizerConfig))


def _encoders() -> Names:
    import issl_engine.models.encoders as package
    from issl_engine.models.encoders.base import EncoderConfig
    from issl_engine.variants import variants

    return {
        f"{name}<model>" if name.endswith("/") else name: text
        for name, text in _first_sentences(variants(package, EncoderConfig)).items()
    }


def _sources() -> Names:
    import issl_engine.sources as package
    from issl_engine.sources.base import SourceConfig
    from issl_engine.variants import variants

    return _first_sentences(variants(package, SourceConfig))


def _probes() -> Names:
    import issl_engine.probing.probes as package
    from issl_engine.probing.probes.base import ProbeConfig
    from issl_engine.variants import variants

    return _first_sentences(variants(package, ProbeConfig))


def _protocols() -> Names:
    from issl_engine.probing.protocols import PROTOCOLS

    return {name: f"{one.what}. Source: {one.source}." for name, one in PROTOCOLS.items()}


def _optimizers() -> Names:
    import issl_engine.optim as package
    from issl_engine.optim.base import OptimizerConfig
    from issl_engine.variants import variants

    return _first_sentences(variants(package, OptimizerConfig))


def _weights() -> Names:
    from issl_engine.weights.published import PUBLISHED

    return {name: published.about for name, published in PUBLISHED.items()} | {
        "timm:<model>": "timm's own weights of one of its models"
    }


def _layouts() -> Names:
    import issl_engine.weights.layouts as package
    from issl_engine.variants import variants
    from issl_engine.weights.layouts.base import Layout

    return _first_sentences(variants(package, Layout))


def _formats() -> Names:
    import issl_engine.weights.formats as package
    from issl_engine.variants import variants
    from issl_engine.weights.formats.base import ExportFormat

    return _first_sentences(variants(package, ExportFormat))


def _first_sentences(classes: dict[str, type]) -> Names:
    return {name: _first_sentence(inspect.getdoc(cls) or "") for name, cls in classes.items()}


def _first_sentence(text: str) -> str:
    """A full stop inside brackets, as in (Wu et al. 2018), ends none."""
    sentence = ""
    for part in " ".join(text.partition("\n\n")[0].split()).split(". "):
        sentence += part if not sentence else f". {part}"
        if sentence.count("(") == sentence.count(")"):
            break
    return sentence.removesuffix(".") + "."


_READERS: dict[str, Callable[[], Names]] = {
    "recipes": _recipes,
    "objectives": _objectives,
    "regularizers": _regularizers,
    "encoders": _encoders,
    "sources": _sources,
    "probes": _probes,
    "protocols": _protocols,
    "optimizers": _optimizers,
    "suites": _suites,
    "weights": _weights,
    "layouts": _layouts,
    "formats": _formats,
}

"""Every objective: formula, source, what it needs, and its keys; all from its file's docstrings and its Config.

The module's docstring cites the paper in its first paragraph. The docstring of the Objective begins with the loss, or
that of the base class which it shares with others does.
"""

import inspect
import re
import sys
import textwrap

import issl_engine.objectives as package
from issl_engine.docs.keys import key_table
from issl_engine.docs.markdown import anchor, code, plain, table
from issl_engine.objectives.base import Objective, ObjectiveConfig
from issl_engine.variants import variants

WIDTH = 110
FORMULA = re.compile(r"[−Σ‖]|CE\(")
"""What a paragraph that states a loss has, and one in words has not."""


def objectives() -> str:
    """A table of all, then a section for each."""
    configs = variants(package, ObjectiveConfig)
    lines = table(
        ["objective", "source"],
        [[f"[{code(name)}](#{anchor(name)})", plain(source_of(config))] for name, config in configs.items()],
    )
    for name, config in configs.items():
        lines += _section(name, config)
    return "\n".join(lines)


def source_of(config: type[ObjectiveConfig]) -> str:
    """The paper that an objective comes from: the first paragraph of its file."""
    return _paragraphs(sys.modules[config.__module__])[0]


def formula_of(config: type[ObjectiveConfig]) -> str:
    """The loss: the first paragraph of the Objective's docstring, or of the nearest base that states it."""
    objective = _objective_of(config)
    classes = [one for one in objective.__mro__ if issubclass(one, Objective) and one is not Objective]
    found = [text for one in classes if FORMULA.search(text := _paragraphs(one)[0])]
    assert found, f"{objective.__name__}: neither its docstring nor one of its bases' begins with the loss"
    return found[0]


def _section(name: str, config: type[ObjectiveConfig]) -> list[str]:
    objective = _objective_of(config)
    letters = [text for text in _paragraphs(sys.modules[config.__module__])[1:] if text.startswith("Letters:")]
    notes = [text for text in _paragraphs(objective) if text != formula_of(config)]
    traits = {
        "It has an EMA teacher, which sees the global views.": objective.uses_ema_teacher,
        "It needs to know which image each row is.": objective.uses_image_ids,
        "`training.exact_accumulation` works with it.": config.loss_compares_embeddings,
    }
    return [
        f"## {name}",
        "",
        plain(inspect.getdoc(config) or ""),
        "",
        f"Source: {plain(source_of(config))} File: `objectives/{config.__module__.rpartition('.')[2]}.py`.",
        "",
        "```text",
        *textwrap.wrap(formula_of(config), WIDTH),
        "```",
        "",
        *(line for text in [*letters, *notes] for line in (plain(text), "")),
        *(line for text, is_so in traits.items() if is_so for line in (text, "")),
        *key_table(config),
        _searched(config),
        "",
    ]


def _searched(config: type[ObjectiveConfig]) -> str:
    ranges = [f"{code(key)} {plain(one.describe())}" for key, one in config.search_ranges.items()]
    return f"`issl-engine search` tries {'; '.join(ranges)}."


def _objective_of(config: type[ObjectiveConfig]) -> type[Objective]:
    """The one Objective in the file of a Config."""
    module = sys.modules[config.__module__]
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Objective) and value.__module__ == module.__name__
    ]
    (objective,) = found
    return objective


def _paragraphs(thing: object) -> list[str]:
    """The paragraphs of a docstring, each in one line."""
    text = inspect.getdoc(thing)
    assert text, f"{thing} has no docstring"
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]

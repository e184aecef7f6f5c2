"""Every command with its arguments and options, as ``--help`` prints them."""

from collections.abc import Iterator

import click

from issl_engine.cli import COMMANDS, main
from issl_engine.docs.markdown import anchor, code, plain, table

WIDTH = 100


def command_line() -> str:
    """A table of the commands, then the help of each and of its subcommands."""
    lines = table(
        ["command", "what it does"],
        [[f"[{code(name)}](#{anchor(_heading([name]))})", plain(lazy.help)] for name, lazy in COMMANDS.items()],
    )
    lines += _section([], _context(main, "issl-engine", None))
    for name in COMMANDS:
        for words, context in _commands([name], _context(main, "issl-engine", None)):
            lines += _section(words, context)
    return "\n".join(lines)


def _commands(words: list[str], parent: click.Context) -> Iterator[tuple[list[str], click.Context]]:
    """A command, then its subcommands."""
    group = parent.command
    assert isinstance(group, click.Group)
    command = group.get_command(parent, words[-1])
    assert command is not None
    context = _context(command, words[-1], parent)
    yield words, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _commands([*words, name], context)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH,
                         help_option_names=["-h", "--help"])  # fmt: skip


def _heading(words: list[str]) -> str:
    return " ".join(["issl-engine", *words])


def _section(words: list[str], context: click.Context) -> list[str]:
    level = "##" if len(words) < 2 else "###"
    help_text = context.command.get_help(context).rstrip()
    return [f"{level} {_heading(words)}", "", "```text", *(line.rstrip() for line in help_text.splitlines()), "```", ""]

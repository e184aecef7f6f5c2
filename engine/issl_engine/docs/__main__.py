"""``python -m issl_engine.docs``: writes the generated parts of a checkout's documents, and names what changed."""

from pathlib import Path

import click

from issl_engine.docs.parts import stale_documents
from issl_engine.mistakes import Mistake, sentence_of

CHECKOUT = Path(__file__).parents[3]


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 where a file is out of date.")
def main(check: bool) -> None:
    """Write the generated parts of README files and tables anew."""
    try:
        stale = stale_documents(CHECKOUT)
    except Mistake as error:
        raise click.ClickException(sentence_of(error)) from error
    for path, text in stale.items():
        click.echo(path.relative_to(CHECKOUT))
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main(prog_name="python -m issl_engine.docs")

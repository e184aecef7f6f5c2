"""Tables of the names that ``issl-engine list`` prints."""

import json

from click.testing import CliRunner

from issl_engine.cli import main
from issl_engine.docs.markdown import code, plain, table


def table_of_names(kind: str) -> str:
    """Name and meaning of each of a kind, as ``issl-engine list KIND`` gives them."""
    done = CliRunner().invoke(main, ["list", kind, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    names = json.loads(done.stdout)
    return "\n".join(table(["name", "what it is"], [[code(name), plain(text)] for name, text in names.items()]))

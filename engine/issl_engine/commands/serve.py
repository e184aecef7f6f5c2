"""issl-engine serve: run folders in the browser, live."""

import webbrowser
from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS...")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to listen on; 0 takes any free port.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in this desktop's browser.")
def serve(runs: tuple[Path, ...], port: int, open_browser: bool) -> None:
    """Show every run folder at or below RUNS in the browser. A run that is going on is updated without a reload.

    Only this machine can see the pages (127.0.0.1). For a run on another machine, forward the port:
    ssh -L 8765:127.0.0.1:8765 HOST. Ctrl-C ends it.

    \b
    Example:
      issl-engine serve runs --open
    """
    from issl_engine.report.serve import RunServer

    with RunServer(list(runs), port) as server:
        try:
            click.echo(f"serving {len(server.runs())} runs at {server.address} (Ctrl-C ends it)")
            if open_browser:
                webbrowser.open(server.address)
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)

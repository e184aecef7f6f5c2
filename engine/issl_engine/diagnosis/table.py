"""A diagnosis on the terminal."""

from rich.console import Console
from rich.table import Table

from issl_engine.diagnosis.meaning import what_it_says
from issl_engine.diagnosis.measure import Diagnosis


def print_diagnosis(found: Diagnosis, name: str, console: Console | None = None) -> None:
    """A line a measure: its value, the theory's optimum, what it says; prints to stdout."""
    console = console or Console()
    about = f"{found.num_images} images of the {found.split} split, {found.num_views} views each"
    table = Table(
        "measure", title=name, title_justify="left", caption=f"{about}; {found.dim} dimensions", caption_justify="left"
    )
    table.add_column("value", justify="right")
    table.add_column("optimum", justify="right")
    table.add_column("what it says")
    for measure, value in found.measures.items():
        optimum = found.optimum.get(measure)
        table.add_row(
            measure, f"{value:.4g}", "–" if optimum is None else f"{optimum:.4g}", what_it_says(measure, found)
        )
    console.print(table)

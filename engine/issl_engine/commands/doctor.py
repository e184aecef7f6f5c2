"""issl-engine doctor: what this machine can do."""

import json
from dataclasses import asdict

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show what is installed, what each part is good for, and what to do about what is missing.

    The exit code is 1 if something is missing that every run needs.

    \b
    Examples:
      issl-engine doctor
      issl-engine doctor --json
    """
    with reserved_stdout():
        from issl_engine.environment import checks, collect_environment, device_summary

        found = checks()
        environment = collect_environment()
    if as_json:
        record = {"environment": environment, "checks": [asdict(check) for check in found]}
        click.echo(json.dumps(record, indent=1, ensure_ascii=False))
    else:
        click.echo(f"issl-engine {environment['issl_engine']}, Python {environment['python']}")
        click.echo(f"{device_summary(environment)}, {environment['memory_gib']} GiB of memory")
        width = max(len(check.item) for check in found)
        for check in found:
            state = "ok" if check.found else "MISSING" if check.needed else "none"
            click.echo(f"\n{check.item:<{width}}  {state:<7}  {check.found or ''}".rstrip())
            click.echo(f"{'':<{width}}  for {check.good_for}")
            if check.advice and (check.found is None or check.item == "GPU"):  # a GPU may be there and be old
                click.echo(f"{'':<{width}}  {check.advice}")
    if any(check.needed and check.found is None for check in found):
        raise click.exceptions.Exit(1)

"""Numbers in the environment variables by which a launcher says who a rank is and where the ranks meet."""

import os
from collections.abc import Mapping

from issl_engine.mistakes import Mistake


def whole_number(name: str, environment: Mapping[str, str] = os.environ) -> int:
    """A variable that is set. Raises Mistake for what is no whole number."""
    try:
        return int(environment[name])
    except ValueError:
        raise Mistake(
            f"{name} is '{environment[name]}' in the environment; it must be a whole number: mend the launcher, or "
            "unset it to start without one"
        ) from None


def check_rank(rank_name: str, rank: int, size_name: str, world_size: int) -> None:
    """Raises Mistake for a rank that is none of 0 to ``world_size`` - 1; the names are the variables'."""
    if world_size < 1:
        raise Mistake(
            f"{size_name} is {world_size} in the environment; there must be at least one rank: mend the launcher, or "
            "unset it to start without one"
        )
    if not 0 <= rank < world_size:
        raise Mistake(
            f"{rank_name} is {rank} and {size_name} is {world_size}: ranks count from 0 to {world_size - 1}; mend the "
            "launcher, or unset both to start without one"
        )


def check_meeting_place(rank: int, world_size: int, environment: Mapping[str, str] = os.environ) -> None:
    """Raises Mistake where nothing says at which address and port rank 0 waits, or the port is none."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise Mistake(
            f"rank {rank} of {world_size} does not know where to meet the others: set {' and '.join(missing)} to an "
            "address of rank 0's host and a free port there ('issl-engine slurm' writes a script that does)"
        )
    chosen_port(environment)


def chosen_port(environment: Mapping[str, str] = os.environ) -> int | None:
    """MASTER_PORT, or None where it is not set. Raises Mistake for what is no port."""
    text = environment.get("MASTER_PORT")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536):
        raise Mistake(
            f"MASTER_PORT is '{text}' in the environment; a port is a number from 1 to 65535: set it to a free one"
        )
    return int(text)

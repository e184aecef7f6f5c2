"""Benchmarks of training time one process alone."""

from issl_engine.mistakes import Mistake
from issl_engine.ranks import Ranks, start_ranks


def start_one_rank(command: str) -> Ranks:
    """This process. Raises ValueError where a launcher has started several; ``command`` is what was called."""
    ranks = start_ranks()
    if ranks.world_size > 1:
        raise Mistake(f"{command} times one rank, and WORLD_SIZE is {ranks.world_size}; start it without a launcher")
    return ranks

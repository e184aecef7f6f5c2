"""What ranks log: the first everything, the others warnings and errors, with their number in front."""

import logging
import os
from pathlib import Path

from issl_engine.launch.rank_environment import RANK_LOG
from issl_engine.log_file import LogFile

LOGS = ("issl_engine", "issl_kernels")


def set_up_rank_log(rank: int) -> None:
    """Rank 0 logs to its supervisor's file too; the others, whose stderr may be the terminal, only what is wrong."""
    path = os.environ.get(RANK_LOG)
    for name in LOGS:
        log = logging.getLogger(name)
        if rank > 0:
            log.setLevel(max(logging.WARNING, log.level))
            for handler in log.handlers:
                handler.setFormatter(logging.Formatter(f"[rank {rank}] %(levelname)s %(message)s"))
        elif path is not None:
            log.addHandler(LogFile(Path(path)))

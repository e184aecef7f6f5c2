"""A rank ends when its supervisor does, even one that was ended by kill -9."""

import ctypes
import os
import signal

PARENT = "ISSL_PARENT"
"""Process id of the supervisor that started this process."""

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Asks Linux to end this process when the supervisor that started it ends. Without a supervisor does nothing."""
    parent = os.environ.pop(PARENT, None)  # not for this process's own children
    if parent is None:
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != int(parent):  # it ended before Linux could watch it
        os._exit(1)

"""What is wrong with a run folder."""

from issl_engine.mistakes import Mistake


class ReportError(Mistake):
    """A folder that is no run, or a damaged file in it: one sentence."""

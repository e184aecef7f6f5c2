"""What is wrong with a run folder."""


class ReportError(ValueError):
    """A folder that is no run, or a damaged file in it: one sentence."""

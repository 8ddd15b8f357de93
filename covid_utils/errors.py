"""Errors that people read: one sentence that names the file and says what to do."""


class CompanionError(Exception):
    """Base of every error that the companion raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows below a cell: the sentence, without the lines that led to it."""
        return [f"{type(self).__name__}: {self}"]


class DataError(CompanionError):
    """A data set, an image or a label is missing, damaged or not what its layout promises."""


class ParameterError(CompanionError):
    """A parameter is unknown, mistyped, or out of its range."""


class ResultsError(CompanionError):
    """A result that a later stage needs has not been computed yet, or is damaged."""

"""What the user can mend, in one sentence. Only that is shown without a traceback; all else is a defect.

A sentence says what is wrong, where (file, key or argument), and what to do.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Mistake(ValueError):
    """A wrong key, file, argument or state that the user can mend. The message is for the user as it stands.

    Library code and defects raise other exceptions, ValueError among them: those keep their traceback.
    """


def is_mistake(error: BaseException) -> bool:
    """Whether an exception is shown as a sentence: a Mistake, or an OSError that names its file.

    A broken pipe names none, and is no defect either: whoever read our output has gone.
    """
    if isinstance(error, OSError):
        return error.filename is not None or isinstance(error, BrokenPipeError)
    return isinstance(error, Mistake)


def sentence_of(error: BaseException) -> str:
    """The sentence for the user; of an OSError the file's name comes first."""
    if isinstance(error, OSError) and error.strerror:
        place = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{place}: {error.strerror}" if place else error.strerror
    return str(error) or type(error).__name__


@contextmanager
def mistakes_from(*kinds: type[Exception]) -> Iterator[None]:
    """Encloses a call of a library whose exceptions of these kinds are a sentence about what the user gave."""
    try:
        yield
    except Mistake:
        raise
    except kinds as error:
        raise Mistake(sentence_of(error)) from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that a mistyped one is close to: ``"; did you mean 'x'?"``, or empty text if there is none."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean '{lower[close[0]]}'?" if close else ""

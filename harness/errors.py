"""What goes wrong and whose it is to mend, and the words that help to mend it."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake of the user's, told in one line: where it is, what was found, what is legal, what to do; or several.

    The command line prints each without a traceback, and exits with code 2.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class Diverged(Exception):
    """A training loss that is not finite: the run stops and is stored as `diverged`."""


class OutOfTime(Exception):
    """The time that a command was given is up: what is done is stored, and the same command goes on."""


def one_line(error: BaseException, length: int = 200) -> str:
    """Return what an exception says, in one line of at most `length` characters; its type where it says nothing."""
    return " ".join(str(error).split())[:length] or type(error).__name__


@contextmanager
def user_error(
    problem: str, advice: str = "", kinds: type[Exception] | tuple[type[Exception], ...] = Exception
) -> Iterator[None]:
    """Tell a library's exception of these kinds as a mistake of the user's: "problem: reason; advice".

    Raises:
        UserError: in the place of the exception; one from within is left as it is.
    """
    try:
        yield
    except UserError:
        raise
    except kinds as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError("; ".join(filter(None, (f"{problem}: {reason}", advice)))) from None


def closest(word: str, legal: Iterable[str]) -> str | None:
    """Return the legal word that is spelt most like `word`; None where none is near."""
    return next(iter(difflib.get_close_matches(word, sorted(legal), n=1, cutoff=0.55)), None)


def nearest(word: str, legal: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest legal word, or the legal words where none is near, if any."""
    words = sorted(map(str, legal))
    near = closest(str(word), words)
    return f"; did you mean '{near}'?" if near else f"; legal: {', '.join(words)}" if words else ""

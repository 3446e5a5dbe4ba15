"""What goes wrong and whose it is to mend, and the words that help to mend it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's, told in one line: where it is, what was found, what is legal, what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class Diverged(Exception):
    """A training loss that is not finite: the run stops and is stored as `diverged`."""


def nearest(word: str, legal: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest legal word, or the legal words where none is near."""
    words = sorted(map(str, legal))
    close = difflib.get_close_matches(str(word), words, n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else f"; legal: {', '.join(words)}"

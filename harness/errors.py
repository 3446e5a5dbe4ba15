"""The one exception that means "the person at the keyboard can mend this"."""


class UserError(Exception):
    """A mistake of the user's, told in one line: where it is, what was found, what is legal, what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class Diverged(Exception):
    """A training loss that is not finite: the run stops and is stored as `diverged`."""

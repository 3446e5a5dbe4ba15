"""A library's failure is told as the user's mistake, in one line."""

import pytest

from harness.errors import UserError, user_error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("two\nlines"), "a.png: cannot be read: two lines; fetch it again"),
        (
            FileNotFoundError(2, "No such file or directory", "/a.png"),
            "a.png: cannot be read: No such file or directory; ",
        ),
        (EOFError(), "a.png: cannot be read: EOFError; "),
        (UserError("b.png: of another size"), "b.png: of another size"),
    ],
)
def test_a_failure_says_what_and_why_and_what_to_do(error: Exception, message: str) -> None:
    with pytest.raises(UserError) as raised, user_error("a.png: cannot be read", "fetch it again"):
        raise error
    assert str(raised.value).startswith(message)


def test_a_failure_of_another_kind_is_left_as_it_is() -> None:
    with pytest.raises(KeyError), user_error("a.png: cannot be read", kinds=OSError):
        raise KeyError

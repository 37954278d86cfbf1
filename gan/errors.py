"""The errors that a user can cause: they end a command in one line that says what to do."""

_LONGEST_MESSAGE = 600  # characters


class UserError(Exception):
    """Something outside the program is wrong; the message names it and the way out, in one line.

    Its text is one printable line of bounded length whatever it quotes: a file, a server or a command line may have chosen a part
    of it, and a terminal obeys control characters.
    """

    def __str__(self):
        return one_line(super().__str__())


class ParamsError(UserError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


class DataError(UserError):
    """A data file is missing, damaged or not what it should be."""


def is_users(error):
    """Whether a user can mend what `error` says, in one line: a UserError, or the system's, such as a full disk or no permission.

    Libraries raise an OSError of their own as well, without a file or a number: nobody but a developer can read that.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and bool(error.filename or error.errno))


def one_line(text):
    """`text` as one printable line of bounded length: spaces in place of line breaks, escapes in place of control characters."""
    line = " ".join(text.split())
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)
    if len(shown) <= _LONGEST_MESSAGE:
        return shown
    return f"{shown[: _LONGEST_MESSAGE // 2]} ... {shown[-_LONGEST_MESSAGE // 2 :]}"

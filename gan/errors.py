"""The errors that a user can cause: they end a command in one line that says what to do."""


class UserError(Exception):
    """Something outside the program is wrong; the message names it and the way out, in one line."""


class ParamsError(UserError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


class DataError(UserError):
    """A data file is missing, damaged or not what it should be."""

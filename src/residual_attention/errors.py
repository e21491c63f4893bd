"""The errors that a user can fix, told apart from bugs."""


class UserError(ValueError):
    """Something the user can fix: one line that says what is wrong, where, and how to fix it.

    The command line prints the line and exits with 2. Any other exception is a bug.
    """


class DataNotFoundError(UserError):
    """The data are not on this machine and cannot be downloaded."""


class WriteError(UserError, OSError):
    """A file could not be written: no space, no permission. What was there before is still there."""


class ExportError(UserError):
    """The exported network does not compute what the PyTorch one does; nothing was written."""

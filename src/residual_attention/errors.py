"""Errors a user can fix, as opposed to bugs."""


class UserError(ValueError):
    """Something the user can fix: one line that says what is wrong, where, and how to fix it.

    The command line prints the line and exits with 2. Any other exception is a bug.
    """


class DataNotFoundError(UserError):
    """The data are not on this machine and cannot be downloaded."""


class WriteError(UserError, OSError):
    """A file could not be written (no space, no permission). An existing file is unchanged."""


class ExportError(UserError):
    """The exported network's output differs from PyTorch's; nothing was written."""

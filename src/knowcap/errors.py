"""The one kind of error that is a user's to repair."""


class UserError(ValueError):
    """A mistake that one clear line explains.

    The line names what was given, what is allowed and where it is set. The command line prints
    it without a traceback and exits with code 2. Everything else that goes wrong is a bug and
    keeps its traceback.
    """

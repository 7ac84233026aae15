"""The one exception that a user is meant to read."""

from __future__ import annotations


class VaelabError(Exception):
    """Bad input or an impossible request; the message alone tells the user what to change.

    The command line prints it without a traceback and exits with status 2.
    """

"""The exception whose message is meant for the user."""

from __future__ import annotations


class VaelabError(Exception):
    """Bad input or an impossible request; the message says what to change.

    The command line prints it without a traceback and exits with status 2.
    """

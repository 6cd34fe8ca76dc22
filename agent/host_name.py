"""Names of hosts, as they are handed to whatever looks them up."""

from typing import Any


def cheap(host: str) -> Any:
    """As bytes, which libraries' types do not know: for a str Python loads tables of all scripts, 0.35 MB."""
    return host.encode() if host.isascii() else host

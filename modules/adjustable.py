"""What an order may say about a module beyond its digest: settings, fallback and secrets, as its publisher allows.

The fleet asks before it writes an order, the device before it follows one: both with these rules.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from modules.errors import Invalid
from modules.manifest import Manifest
from modules.settable import check_setting


def check_settings(manifest: Manifest, settings: Mapping[str, object]) -> None:
    """Accept only settings that the manifest declares adjustable, within its bounds.

    Raises:
        Invalid: another setting, or a value out of bounds; names it and says what may be set.
    """
    for name, value in settings.items():
        if name not in manifest.adjustable:
            allowed = ", ".join(sorted(manifest.adjustable)) or "none"
            raise Invalid("the module does not let this be set", element=f"settings.{name}", remedy=f"set: {allowed}")
        check_setting(name, manifest.adjustable[name], value)


def check_secrets(manifest: Manifest, names: Iterable[str]) -> None:
    """Accept only secrets that the manifest declares.

    Raises:
        Invalid: there is another one; names it.
    """
    for name in names:
        if name not in manifest.declared:
            declared = ", ".join(sorted(manifest.declared)) or "none"
            raise Invalid("the module declares no such secret", element=f"secrets.{name}", remedy=f"give: {declared}")


def check_data(manifest: Manifest, region: str | None) -> None:
    """Accept a fallback in this region (None: there is no fallback) only where the module's data may go.

    Raises:
        Invalid: they may not.
    """
    if region is not None and manifest.data:
        manifest.data.check(region)


# What every reader of the address takes alike: the server, the device and its gateway. No user, query or fragment.
_ADDRESS: Final = re.compile(
    r"https://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
)
_LONGEST: Final = 2000
_LONGEST_LABEL: Final = 63
_LAST_PORT: Final = 65535


def is_fallback_pattern(text: str) -> bool:
    """Whether it is a host, lower-case and without port or path, or ``*.`` and a host's name."""
    host = text.removeprefix("*.")
    match = _ADDRESS.fullmatch(f"https://{host}") if text == text.lower() and "*.[" not in text else None
    return match is not None and match["host"] == host and _is_host(host)


def _is_host(host: str) -> bool:
    """Whether programs can look it up: no empty or endless part of a name, and in brackets an address of IPv6."""
    if not host.startswith("["):
        return all(1 <= len(label) <= _LONGEST_LABEL for label in host.split("."))
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True


def check_fallback(url: str | None, patterns: Sequence[str]) -> None:
    """Accept only an https address whose host is allowed; ``*.`` at the beginning of a pattern stands for one name.

    Raises:
        Invalid: not an https address of host, port and path alone, or another host.
    """
    if url is None:
        return
    match = _ADDRESS.fullmatch(url) if len(url) <= _LONGEST else None
    if match is None or not 1 <= int(match["port"] or 443) <= _LAST_PORT or not _is_host(match["host"]):
        raise Invalid(
            f"{url[:120]!r} is not a valid fallback address",
            element="fallback",
            remedy="write https://host/path, without user, query or fragment",
        )
    host = match["host"].lower()
    below = host.partition(".")[2]
    if host not in patterns and f"*.{below}" not in patterns:
        raise Invalid(
            f"neither the module's publisher nor this device allows the host {host}",
            element="fallback",
            remedy=f"use one of: {', '.join(patterns) or 'none'}",
        )

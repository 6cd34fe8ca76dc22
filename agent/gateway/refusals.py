"""The answers that the gateway gives itself: a status and ``{"message": ...}``, never a stack trace."""

import msgspec
from aiohttp import web


def refusal(kind: type[web.HTTPError], message: str, *, retry_after: int | None = None) -> web.HTTPError:
    """An error answer to raise; ``retry_after`` is in seconds."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return kind(
        text=msgspec.json.encode({"message": message}).decode(), content_type="application/json", headers=headers
    )


def too_large(size: int, limit: int, why: str = "") -> web.HTTPError:
    """413 for a body of ``size`` bytes (what is known of it) where ``limit`` are allowed."""
    why = why or f"the request body is larger than {limit} bytes: send less at once"
    text = msgspec.json.encode({"message": why}).decode()
    return web.HTTPRequestEntityTooLarge(
        max_size=limit, actual_size=size, text=text, content_type="application/json", headers={"Connection": "close"}
    )


def unavailable(message: str) -> web.HTTPError:
    """503 that says to come back in a second."""
    return refusal(web.HTTPServiceUnavailable, message, retry_after=1)

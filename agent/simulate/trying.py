"""A try on a simulated device: answered as its gateway would, with numbers that are made up, and that say so. Pure."""

from typing import Any, Final

import msgspec

from agent.simulate.plan import Behaviour, chance
from modules.digests import sha256
from modules.protocol.commands import Trial, Tried
from modules.protocol.report import Running

_SAYS: Final = "a simulated device computes nothing: these numbers are made up of what was sent"
_CLASSES: Final = 10
_P50_MS: Final = 4.0
JSON: Final = "application/json"
_TAKES: Final[dict[str, Any]] = {
    "type": "object",
    "description": "anything: a simulated device computes nothing",
    "properties": {"data": {"type": "array", "items": {"type": "number"}}},
}
_DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.0.3",
    "info": {"title": "a simulated device", "version": "1"},
    "paths": {
        "/score": {
            "post": {
                "requestBody": {"content": {JSON: {"schema": _TAKES}}},
                "responses": {"200": {"description": _SAYS}},
            }
        }
    },
}


def tried(serving: Running | None, behaviour: Behaviour, trial: Trial, *, ident: str) -> Tried:
    """What a gateway would say of this request; the same request is answered alike."""
    if serving is None:
        return _told(503, {"error": "nothing serves in this slot yet"}, 0.1, ident)
    ms = (behaviour.p50_ms if behaviour.kind == "slow" else _P50_MS) * (0.8 + 0.4 * chance(ident))
    if trial.path == "swagger.json":
        return _told(200, _DOCUMENT, ms, ident, serving)
    content = sha256(trial.body)
    if behaviour.kind == "errors" and chance("error", content) < behaviour.error_percent / 100:
        return _told(500, {"error": "this simulated module fails for so many of its requests"}, ms, ident, serving)
    parts = [chance(content, at) ** 4 for at in range(_CLASSES)]
    answer = [[round(one / sum(parts), 4) for one in parts]]
    return _told(200, {"simulated": _SAYS, "made_up": answer}, ms, ident, serving)


def _told(status: int, body: dict[str, Any], ms: float, ident: str, serving: Running | None = None) -> Tried:
    by = {"module": serving.module, "provider": serving.provider, "served_by": "local"} if serving else {}
    version = {"version": serving.module.rpartition(":")[2]} if serving else {}
    return Tried(
        status=status,
        ms=round(ms, 3),
        content_type=JSON,
        body=msgspec.json.encode(body),
        request_id=ident,
        **by,
        **version,
    )

"""``try-module``: what serves in a slot is asked as an application here would ask it, and its answer is the result.

By the gateway, so that whoever asks sees what applications get: its bounds, its fallback, and who answered. The owner
of the device decides in its settings whether anybody may ask from afar.
"""

import asyncio
from typing import Final

import msgspec

from agent.commands.answers import Saying
from agent.commands.parts import Parts
from agent.host_name import cheap
from agent.module_client import HEAD_LIMIT, BadAnswer, exchange
from modules.errors import NeedsOperator, Transient, Unfit
from modules.protocol.commands import TRIED_BODY, Command, Trial, Tried
from modules.words import printable

CONTENT: Final = "application/json"
SECONDS: Final = 30.0
_MARK: Final = "x-edgefleet-"
_WORD: Final = 100
_LINE: Final = 500


async def run(command: Command, parts: Parts, saying: Saying) -> str:
    """One request, one answer.

    Raises:
        Unfit: the device's owner does not let anybody ask from afar.
        NeedsOperator: no gateway answers on this device.
        Transient: no whole answer came in time.
    """
    if not parts.settings.try_module:
        raise Unfit("this device's owner lets nobody ask its modules from afar", element="try_module")
    trial = command.trial
    assert isinstance(trial, Trial)  # noqa: S101 - the document was checked
    saying.began()
    tried = await _asked(
        parts.settings.gateway_address,
        f"/{command.slot}/{trial.path}",
        trial,
        ident=command.id,
        within_s=command.arguments.get("seconds", SECONDS),
    )
    saying.result(msgspec.json.encode(tried), CONTENT)
    by = f" by {tried.module or 'the gateway'}{f', {tried.served_by}' if tried.served_by else ''}"
    return f"answered {tried.status} in {tried.ms:.1f} ms{by}"


async def _asked(address: str, target: str, trial: Trial, *, ident: str, within_s: float) -> Tried:
    """What the gateway answers; the request has the command's id, by which the gateway's log names it."""
    host, _, port = address.rpartition(":")
    fields = {"Host": address, "x-request-id": ident}
    fields |= {name: value for name, value in (("Accept", trial.accept),) if value}
    method, wanted = ("POST", target) if trial.path == "score" else ("GET", f"{target}?version=3")
    if method == "POST" and trial.content_type:
        fields["Content-Type"] = trial.content_type
    body = trial.body if method == "POST" else b""
    now = asyncio.get_running_loop().time
    began = now()
    try:
        async with asyncio.timeout(within_s):
            try:
                opened = await asyncio.open_connection(cheap(host.strip("[]")), int(port), limit=HEAD_LIMIT)
            except (OSError, ValueError) as error:
                raise NeedsOperator(
                    f"the gateway does not answer: {error}", element=address, remedy="see edgefleet-agent doctor"
                ) from error
            answer = await exchange(*opened, method, wanted, body=body, fields=fields, limit=TRIED_BODY)
    except TimeoutError as error:
        raise Transient(f"no whole answer came within {within_s:g} s", element=target, remedy="wait longer") from error
    except (BadAnswer, OSError) as error:
        raise Transient(f"the answer cannot be used: {error}", element=target) from error

    def said(name: str, most: int = _WORD) -> str:
        return printable(answer.fields.get(name, ""), most)

    return Tried(
        status=answer.status,
        ms=round(1000 * (now() - began), 3),
        content_type=said("content-type", _LINE),
        body=answer.body,
        module=said(f"{_MARK}module", _LINE),
        served_by=said(f"{_MARK}served-by"),
        provider=said(f"{_MARK}provider"),
        version=said(f"{_MARK}version"),
        request_id=said("x-request-id", _LINE),
    )

"""One request to one peer over one connection, and its answer back to the client."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from agent.gateway.bodies import Body
from agent.gateway.headers import ambiguous, passed_on
from agent.gateway.refusals import refusal
from agent.gateway.watch import NoSign, Watch
from modules.words import printable

logger = logging.getLogger(__name__)

_HEAD: Final = "HEAD"
_FIRST_FINAL: Final = 200
_LAST: Final = 599
_WORDS: Final = 300
_LATER: Final = 503
_REDIRECTS: Final = range(300, 400)
_UNWELCOME: Final = frozenset({401, 403})


class Silence(NamedTuple):
    """A peer gave no answer at all.

    ``absent`` means that there was nothing to connect to; otherwise a connection was lost before the answer began.
    ``final``: it would be the same a second time.
    """

    reason: str
    absent: bool
    final: bool = False


class Errand(NamedTuple):
    """What is to be asked, whoever will be asked.

    ``marks`` are set on the answer, ``last`` says that the client's connection ends with it. ``lost`` is called where
    the peer had the request and its answer will never be whole, ``heard`` once its answer, or the head of a long one,
    is here. ``afar``: the peer is not on this device, so that what concerns the device alone is kept from the client.
    ``spare``: somebody else can be asked, so that who says "later" is not waited for.
    """

    request: web.BaseRequest
    body: Body
    headers: CIMultiDict[str]
    marks: dict[str, str]
    whole_answer: int
    last: bool
    lost: Callable[[], None]
    heard: Callable[[], None]
    afar: bool = False
    spare: bool = False


async def relay(
    errand: Errand, session: aiohttp.ClientSession, url: URL, watch: Watch | None = None
) -> web.StreamResponse | Silence:
    """Ask and pass the answer on; with a ``watch`` over the peer only as long as that gives signs of life.

    Raises:
        web.HTTPError: the client's body failed, or the peer answered nonsense (502) or too late (504).
        ConnectionError: the client went away.
    """
    body = errand.body
    try:
        asked = session.request(
            errand.request.method, url, headers=errand.headers, data=body.data(), allow_redirects=False
        )
        answer = await (asked if watch is None else watch.over(asked))
    except NoSign as error:
        errand.lost()
        return Silence(str(error), absent=False, final=True)
    except (aiohttp.ClientError, OSError) as error:
        return _without_answer(errand, error)
    except asyncio.CancelledError:
        errand.lost()  # the client has left, and the peer works on without it
        raise
    try:
        if not _FIRST_FINAL <= answer.status <= _LAST:
            # Nobody asked for another protocol; passed on, it would open the way to whatever the module speaks.
            raise refusal(web.HTTPBadGateway, f"the module answered {answer.status}, which was not asked for")
        if wrong := ambiguous(answer.headers) or (None if (answer.reason or "").isprintable() else "its first line"):
            raise refusal(web.HTTPBadGateway, f"the module's answer is no plain HTTP: {wrong}")
        if errand.afar and (unusable := await _unusable(answer)) is not None:
            return unusable
        if errand.spare and answer.status == _LATER and hdrs.RETRY_AFTER in answer.headers:
            return Silence(f"it answers {answer.status}: not yet, or not now", absent=False, final=True)
        return await _pass_on(errand, answer)
    finally:
        # Nothing happens where the answer was read to its end; else the connection cannot be used again.
        answer.close()


async def _unusable(answer: aiohttp.ClientResponse) -> Silence | None:
    """An answer from afar that is none for the client: it sends us elsewhere, or does not let the device in."""
    if answer.status in _REDIRECTS:
        return Silence(
            f"it answers {answer.status} and would send us elsewhere, where we do not go", absent=False, final=True
        )
    if answer.status not in _UNWELCOME:
        return None
    try:
        said = printable((await answer.content.read(_WORDS)).decode(errors="replace"), _WORDS)
    except (aiohttp.ClientError, OSError):
        said = ""
    return Silence(f"it does not let this device in ({answer.status}) {said}".rstrip(), absent=False, final=True)


def _without_answer(errand: Errand, error: Exception) -> Silence:
    if errand.body.failure is not None:
        raise errand.body.failure from error
    reason = printable(str(error) or type(error).__name__, _WORDS)
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return Silence(reason, absent=True)
    if isinstance(error, aiohttp.ServerTimeoutError):
        raise refusal(web.HTTPGatewayTimeout, "the module took the request and did not answer in time") from error
    if isinstance(error, aiohttp.ClientConnectionError):
        errand.lost()
        return Silence(reason, absent=False)
    raise refusal(web.HTTPBadGateway, f"the module's answer is no HTTP: {reason}") from error


async def _pass_on(errand: Errand, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = passed_on(answer.headers)
    headers.update(errand.marks)
    length = answer.content_length
    if errand.request.method == _HEAD or (length is not None and length <= errand.whole_answer):
        try:
            content = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            # Not tried again: it answered. A status and a length are a module's answer, and half of it is a fault of
            # that module which another instance must not hide.
            errand.lost()
            raise refusal(web.HTTPBadGateway, "the module stopped in the middle of its answer") from error
        errand.heard()
        # Sent by the server in one piece with its headers, which a StreamResponse is not: a system call less.
        whole = web.Response(status=answer.status, reason=answer.reason, headers=headers, body=content)
        if errand.last:
            whole.force_close()
        return whole
    errand.heard()
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    if errand.last:
        response.force_close()
    await _stream(errand, answer, response)
    return response


async def _stream(errand: Errand, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    await response.prepare(errand.request)
    while True:
        try:
            chunk = await answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            errand.lost()
            logger.warning("%s stopped in the middle of an answer: %s", errand.marks, error)
            # The status is gone out already: closing without the end mark is how the client learns of it.
            errand.request.protocol.force_close()
            return
        if not chunk:
            break
        await response.write(chunk)
    await response.write_eof()


def headers_for(request: web.BaseRequest, request_id: tuple[str, str], *, length: int | None) -> CIMultiDict[str]:
    """The request's headers for a peer, with the body's length where it is known."""
    headers = passed_on(request.headers)
    headers[request_id[0]] = request_id[1]
    if length is None or (length == 0 and hdrs.CONTENT_LENGTH not in request.headers):
        headers.popall(hdrs.CONTENT_LENGTH, None)
    else:
        headers[hdrs.CONTENT_LENGTH] = str(length)
    return headers

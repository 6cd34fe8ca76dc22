"""The gRPC port: who may come in, how much is taken, what each refusal becomes, and the end of it all.

Imported only where ``--grpc-port`` is given: it needs what the extra ``grpc`` brings.
"""

import asyncio
import logging
import time
from functools import partial
from typing import Any, Final

import grpc

from modules.endpoint.certificate import ServedCertificate
from modules.errors import EdgefleetError
from modules.scoring.http.admission import Admission, Overloaded
from modules.scoring.http.app import App
from modules.scoring.http.connection import KEEP_ALIVE_S
from modules.scoring.http.replies import Header, Reply
from modules.scoring.models import Models
from modules.scoring.settings import BadCommandLine, Settings
from modules.scoring.v2.grpc_v2 import Call, InferenceService
from modules.scoring.v2.protocol_v2 import failure, refusal

log = logging.getLogger(__name__)

SERVICE: Final = "/inference.GRPCInferenceService/"
_INFER: Final = f"{SERVICE}ModelInfer"
_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED, 429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    431: grpc.StatusCode.INVALID_ARGUMENT, 500: grpc.StatusCode.INTERNAL, 503: grpc.StatusCode.UNAVAILABLE,
}  # fmt: skip
_IDENTITY_ALONE: Final = 1


class GrpcServer:
    """The port, open from :meth:`start` on. ``tls`` is the certificate that the HTTP port uses too."""

    def __init__(
        self, app: App, models: Models, admission: Admission, settings: Settings, tls: ServedCertificate | None
    ) -> None:
        self._settings = settings
        self._tls = tls
        limits = settings.limits
        self._server = grpc.aio.server(
            handlers=[_Calls(app, admission, InferenceService(models).calls())],
            maximum_concurrent_rpcs=limits.max_connections,
            options=[
                ("grpc.max_receive_message_length", limits.max_body),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_allowed_incoming_connections", limits.max_connections),
                # A client that is gone without a word is found out, and gives its place back.
                ("grpc.keepalive_time_ms", int(KEEP_ALIVE_S * 1000)),
                ("grpc.keepalive_permit_without_calls", 1),
                # Small messages can unpack to far more than any body may be, and are measured only then.
                ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ALONE),
                # A port in use is an error, not one to share with another server.
                ("grpc.so_reuseport", 0),
            ],
        )

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            BadCommandLine: the address is in use or cannot be bound.
        """
        host = self._settings.host
        where = f"[{host}]:{self._settings.grpc_port}" if ":" in host else f"{host}:{self._settings.grpc_port}"
        try:
            port = (
                self._server.add_insecure_port(where)
                if self._tls is None
                else self._server.add_secure_port(where, _credentials(self._tls))
            )
        except RuntimeError as error:
            raise BadCommandLine(
                "cannot listen for gRPC", element=where, remedy="choose another address, or end what uses it"
            ) from error
        await self._server.start()
        log.info("listening for gRPC at %s:%d", where.rpartition(":")[0], port)

    async def stop(self, seconds: float) -> None:
        """Refuse what comes from now on, let what is in flight finish, and cut what is not done in time."""
        await self._server.stop(seconds)


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The handler of each call; whoever may not come in gets one that refuses before the message is read."""

    def __init__(self, app: App, admission: Admission, calls: dict[str, Call]) -> None:
        self._app = app
        self._admission = admission
        # Messages are passed on as bytes, so that they are counted before anything is made of them.
        self._handlers = {
            SERVICE + name: grpc.unary_unary_rpc_method_handler(partial(self._answer, SERVICE + name, call))
            for name, call in calls.items()
        }

    def service(self, details: Any) -> Any:
        handler = self._handlers.get(details.method)
        if handler is None:
            return None
        try:
            self._app.admit(details.method.encode(), _headers(details.invocation_metadata))
        except Reply as refused:
            return grpc.stream_unary_rpc_method_handler(partial(_turned_away, refused.with_traceback(None)))
        return handler

    async def _answer(self, method: str, call: Call, body: bytes, context: Any) -> bytes:
        started = time.perf_counter()
        request_id, held = "", 0
        try:
            request_id = self._app.identify(_headers(context.invocation_metadata()))[0][1].decode("ascii")
            context.set_trailing_metadata((("x-request-id", request_id),))
            self._admission.hold(len(body))
            held = len(body)
            answer = await call(body)
        except asyncio.CancelledError:
            self._app.metrics.abandoned += method == _INFER
            raise
        except Overloaded as overloaded:
            refused = overloaded.reply
        # Errors without their tracebacks, which would hold the message in a cycle until the garbage collector comes.
        except Reply as reply:
            refused = reply.with_traceback(None)
        except EdgefleetError as error:
            refused = refusal(error.with_traceback(None))
        except Exception:
            log.exception("a defect of this server", extra={"request_id": request_id})
            refused = failure(500, "this server has a defect; its log says more")
        else:
            self._observe(method, request_id, 200, started)
            return answer
        finally:
            self._admission.release(held)
        self._observe(method, request_id, refused.status, started)
        return _refuse(refused, context)

    def _observe(self, method: str, request_id: str, status: int, started: float) -> None:
        if method == _INFER:
            self._app.observe("gRPC", request_id, status, started)


def _refuse(refused: Reply, context: Any) -> bytes:
    """The empty message that goes with a refusal's code and text; to ``abort`` would make a cycle, as above."""
    context.set_code(_CODES[refused.status])
    context.set_details(refused.text)
    return b""


async def _turned_away(refused: Reply, _: object, context: Any) -> bytes:
    return _refuse(refused, context)


def _headers(metadata: Any) -> list[Header]:
    return [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in metadata]


def _credentials(tls: ServedCertificate) -> Any:
    """The certificate in use, looked at again for each new connection."""
    given = tls.pem

    def renewed() -> Any:
        nonlocal given
        if tls.pem is given:
            return None
        given = tls.pem
        return grpc.ssl_server_certificate_configuration([given])

    return grpc.dynamic_ssl_server_credentials(grpc.ssl_server_certificate_configuration([given]), renewed)

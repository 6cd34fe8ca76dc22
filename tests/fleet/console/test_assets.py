"""Files of the console as they are kept in memory: whole, whoever asked for them first."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from fleet.console.assets import OURS, Assets
from fleet.console.parts import ROOT

FILE = f"{ROOT}{OURS}/console.js"


def library():
    """As the library answers: through a middleware that stops sending once it hears that nobody listens."""

    def file(request):
        return StreamingResponse(iter([b"one, ", b"two, ", b"three"]), headers={"Content-Length": "15"})

    async def passed_on(request, call_next):
        return await call_next(request)

    return Starlette(routes=[Route(FILE, file)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed_on)])


async def answer(app, *, left=False):
    said = []
    scope = {"type": "http", "method": "GET", "path": FILE, "raw_path": FILE.encode(), "query_string": b""}

    async def receive():
        return {"type": "http.disconnect"} if left else {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        said.append(message)

    await app({**scope, "headers": [(b"accept-encoding", b"gzip")]}, receive, send)
    return b"".join(one.get("body", b"") for one in said)


async def test_who_leaves_in_the_middle_leaves_no_half_of_a_file_to_others():
    app = Assets(library())
    await answer(app, left=True)

    assert await answer(app) == b"one, two, three"

"""Where the time goes from a click on a link until its page can be used: by stages, as the browser itself saw them."""

import base64
import hashlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Page

# What a person needs: the page with its data is drawn, and the server would hear a click.
_WATCH: Final = """(() => {
  const at = (window.edgefleetAt = {});
  const look = () => {
    const now = performance.now();
    if (document.querySelector("main [role=heading]")) at.drawn ??= now;
    if (at.drawn && window.did_handshake) at.usable ??= now;
    if (!at.usable) setTimeout(look, 5);
  };
  look();
})()"""
_USABLE: Final = "() => window.edgefleetAt?.usable"
_TOLD: Final = """() => {
  const [page] = performance.getEntriesByType("navigation"), at = window.edgefleetAt;
  const files = performance.getEntriesByType("resource").filter((one) => one.startTime < at.usable);
  return {
    asked: page.requestStart, page: page.responseEnd, ...at, bytes: page.encodedBodySize,
    files: files.map((one) => [one.startTime, one.responseEnd, one.transferSize]),
  };
}"""


class _Told(msgspec.Struct):
    """Milliseconds since the click; of each file when it was wanted, when it was there, and what was sent of it."""

    asked: float
    page: float
    drawn: float
    usable: float
    bytes: int
    files: list[tuple[float, float, int]]


class Stages(msgspec.Struct):
    """Seconds of one opening, one stage after the other; ``whole_s`` as whoever drives the browser saw it."""

    whole_s: float
    connect_s: float  # from the click until the request is on its way
    server_s: float  # until the page, with its data, is there
    files_s: float  # until it is drawn, while any file was on its way
    draw_s: float  # the rest of that, which is the browser's own work
    socket_s: float  # until the page is connected, and a click would be answered
    cpu_s: float  # of the browser's process for this page
    page_kb: float
    files: float  # that were sent, not kept by the browser
    files_kb: float

    @property
    def server(self) -> float:
        """Seconds in which somebody waits for the server."""
        return self.server_s + self.files_s + self.socket_s

    @property
    def browser(self) -> float:
        """Seconds that the browser takes for itself."""
        return self.connect_s + self.draw_s


SHOWN: Final = tuple(name for name in Stages.__struct_fields__ if name != "whole_s")


def watch(page: Page) -> None:
    """Before the page goes anywhere."""
    page.add_init_script(_WATCH)


def visit(page: Page, address: str) -> Stages:
    """Open an address of the console in a page that is watched."""
    began = time.perf_counter()
    page.goto(f"/console{address}", wait_until="commit")
    page.wait_for_function(_USABLE, polling=25)
    whole = time.perf_counter() - began
    return _stages(msgspec.convert(page.evaluate(_TOLD), _Told, strict=False), whole, _cpu(page))


def _cpu(page: Page) -> float:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    found = {one["name"]: float(one["value"]) for one in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return found["ProcessTime"]


def _stages(told: _Told, whole: float, cpu: float) -> Stages:
    waited = _together([(max(begin, told.page), min(end, told.drawn)) for begin, end, _ in told.files])
    sent = [size for _, _, size in told.files if size]
    return Stages(
        whole_s=whole,
        connect_s=told.asked / 1000,
        server_s=(told.page - told.asked) / 1000,
        files_s=waited / 1000,
        draw_s=(told.drawn - told.page - waited) / 1000,
        socket_s=(told.usable - told.drawn) / 1000,
        cpu_s=cpu,
        page_kb=told.bytes / 1000,
        files=len(sent),
        files_kb=sum(sent) / 1000,
    )


def _together(spans: Sequence[tuple[float, float]]) -> float:
    """How long at least one of them lasted."""
    whole, reached = 0.0, 0.0
    for begin, end in sorted(spans):
        whole += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return whole


def middle(found: Sequence[Stages]) -> Stages:
    """Of each stage its median."""
    names = Stages.__struct_fields__
    return Stages(**{name: round(statistics.median(getattr(one, name) for one in found), 3) for name in names})


def trusting(certificate: Path) -> str:
    """The argument with which Chromium takes a server's certificate for one of an authority that it trusts.

    Where it is told to ignore errors it keeps no files, as in the browser of somebody who clicked a warning away.
    """
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"

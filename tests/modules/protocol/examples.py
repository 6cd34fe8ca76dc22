"""One full example of every document that crosses the wire, as it stands in tests/golden.

A golden file is what some device in the field sends today: it is never edited. A document that changes gets a new
format and a new file, and both stay readable. (One was: module-1.json named a digest with two lengths, which no bytes
have and no publisher could send.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from modules import canonical, manifest, samples
from modules.digests import Blob
from modules.manifest import EntryScript, File, Image, Limits, Manifest, Proof, Runtime
from modules.needs import Accelerator, Engine, HostFacts
from modules.protocol import blobs, commands, content, enrollment, facts, order, report, telemetry
from modules.samples import Exact, Numeric, Sample, Samples, TopK
from modules.settable import Adjustable

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
BLOB = Blob(A, 70_000, B)


class Example(NamedTuple):
    document: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def json(document, limit):
    return Example(
        document,
        canonical.encode,
        lambda data: canonical.decode(data, type(document), limit=limit, what=type(document).__name__),
    )


EXAMPLES = {
    "answer-1.json": json(
        commands.Answer(
            id="0123456789abcdef" * 2,
            device="dev-a",
            name="logs",
            part=2,
            state="failed",
            progress=0.5,
            note="12 of 100 lines",
            reason=report.Reason("no-space", "the disk is full"),
            content="text/plain",
            data=b"a line\n",
        ),
        commands.ANSWER_LIMIT,
    ),
    "command-1.json": Example(
        commands.Command(
            id="0123456789abcdef" * 2,
            device="dev-a",
            name="logs",
            issued=1_800_000_000,
            expires=1_800_000_600,
            slot="camera",
            arguments={"lines": 100, "follow_s": 60},
        ),
        commands.encode,
        commands.decode,
    ),
    "module-1.json": Example(
        Manifest(
            team="acme",
            name="digits",
            version="1.4.2",
            serve=EntryScript(script="source/score.py"),
            files=(
                File(sha256=A, length=70_000, blocks=B, path="model/weights.bin"),
                File(sha256=C, length=1, blocks=B, path="samples.json"),
                File(sha256=B, length=2, blocks=A, path="source/score.py"),
            ),
            runtimes=(Runtime(image=Image(name="scoring:1", manifest=BLOB, config=BLOB, layers=(BLOB,))),),
            proof=Proof(limits=Limits(latency_ms=50, memory_mb=256)),
            adjustable={"log_level": Adjustable(default="info", choices=("debug", "info"))},
            fallback_hosts=("*.example.org",),
            opaque_files=("model/weights.bin",),
            description="Reads digits",
            tags={"stage": "field"},
        ),
        manifest.encode,
        manifest.decode,
    ),
    "samples-1.json": Example(
        Samples(
            (
                Sample(name="one", body=b"[1]", answer=b"[2.0]", compare=Numeric(absolute=0.001, relative=0.01)),
                Sample(name="two", body=b"\xff", content_type="image/png", answer=b"ok", compare=Exact()),
                Sample(name="three", body=b"{}", answer=b'{"s":[0.1,0.9]}', compare=TopK(field="s")),
            )
        ),
        samples.encode,
        samples.decode,
    ),
    "order-1.json": Example(
        order.Order(
            device="edge-1",
            counter=7,
            issued=1_760_000_000,
            expires=1_760_600_000,
            slots={
                "digits": order.SlotOrder(
                    manifest="modules/acme/digits/1.4.2.json",
                    digest=A,
                    settings={"log_level": "debug", "probation_s": 5.0},
                    fallback="https://scoring.example.org/digits",
                )
            },
            waivers=(B,),
        ),
        order.encode,
        order.decode,
    ),
    "report-1.json": json(
        report.Report(
            device="edge-1",
            number=3,
            issued=1_760_000_000.5,
            order=7,
            agent="0.1.0",
            slots=(
                report.SlotReport(
                    slot="digits",
                    phase="reverted",
                    module="acme/digits:1.4.2",
                    digest=A,
                    attempts=2,
                    reason=report.Reason("wrong-answer", "one: 2.1 instead of 2.0 at $[0]"),
                    serving=report.Running(
                        module="acme/digits:1.4.1", digest=B, provider="CPUExecutionProvider", engine="docker"
                    ),
                    progress=1.0,
                    times=(("accepted", 1_760_000_000.0), ("reverted", 1_760_000_000.25)),
                ),
            ),
            refusals=(report.Refusal(what="order 6", reason=report.Reason("untrusted", "old"), at=1_760_000_000.0),),
        ),
        report.LIMIT,
    ),
    "status-1.json": json(report.Status(online=False, boot=4), report.STATUS_LIMIT),
    "ack-1.json": json(report.Ack(report=3), report.STATUS_LIMIT),
    "telemetry-1.json": json(
        telemetry.Telemetry(
            device="edge-1",
            stream="modules",
            number=12,
            issued=1_760_000_000.0,
            epoch="0123456789abcdef",
            dropped=3,
            samples=(
                telemetry.Sample(at=1_759_999_400.0, slot="digits", figures={"memory_mb": 61.5, "restarts": 0.0}),
                telemetry.Sample(at=0.0, figures={"up": 1.0}),
            ),
        ),
        telemetry.LIMIT,
    ),
    "facts-1.json": json(
        facts.Facts(
            device="edge-1",
            number=2,
            issued=1_760_000_000.0,
            agent="0.1.0",
            host=HostFacts(
                platform="linux/arm64",
                cpu_model="Cortex-A78AE",
                cores=6.0,
                memory_mb=7620,
                disk_free_mb=20_000,
                accelerators=(
                    Accelerator(
                        kind="cuda", name="Orin", providers=("CUDAExecutionProvider",), devices=("/dev/nvhost",)
                    ),
                ),
                engines=(Engine(name="docker", version="24.0.5"),),
            ),
        ),
        facts.LIMIT,
    ),
    "join-1.json": json(
        enrollment.JoinBundle(
            fleet="https://fleet.example.org",
            broker=enrollment.Broker(host="fleet.example.org", port=8883),
            ca="-----BEGIN CERTIFICATE-----\n",
            root=b"{}",
            token="once",
        ),
        enrollment.LIMIT,
    ),
    "content-1.json": json(
        content.Content(
            url="https://fleet.example.org:8443/api/v1/content/digits",
            ca="-----BEGIN CERTIFICATE-----\n",
            token="ct1.1800000000.c2lnbmVk",
            module="acme/digits:3",
            digest=A,
            root=b"{}",
            roles={"timestamp": content.RoleSeen(12, ("ab" * 32,))},
            written=1_795_000_000.0,
            keys=("k" * 43,),
            within_s=120.0,
            room_bytes=1 << 30,
        ),
        content.LIMIT,
    ),
    "enroll-request-1.json": json(
        enrollment.EnrollRequest(token="once", csr="-----BEGIN CERTIFICATE REQUEST-----\n", name="edge-1"),
        enrollment.LIMIT,
    ),
    "enroll-answer-1.json": json(
        enrollment.EnrollAnswer(device="edge-1", certificate="-----BEGIN CERTIFICATE-----\n"), enrollment.LIMIT
    ),
    "renew-request-1.json": json(
        enrollment.RenewRequest(device="edge-1", csr="-----BEGIN CERTIFICATE REQUEST-----\n"), enrollment.RENEW_LIMIT
    ),
    "renew-answer-1.json": json(
        enrollment.RenewAnswer(
            csr=A,
            certificate="-----BEGIN CERTIFICATE-----\n",
            reason=report.Reason("too-many", "the device had 6 certificates within a day"),
        ),
        enrollment.RENEW_LIMIT,
    ),
    "enroll-pending-1.json": json(
        enrollment.EnrollPending(device="edge-1", fingerprint="0f" * 32, expires=1_760_000_000.0), enrollment.LIMIT
    ),
    "claim-1.json": json(
        enrollment.ClaimBundle(
            claim="0123456789abcdef",
            device="edge-1",
            fleet="https://fleet.example.org",
            broker=enrollment.Broker(host="fleet.example.org", port=8883),
            ca="-----BEGIN CERTIFICATE-----\n",
            root=b"{}",
            certificate="-----BEGIN CERTIFICATE-----\n",
            key="-----BEGIN PRIVATE KEY-----\n",
        ),
        enrollment.LIMIT,
    ),
    "claim-request-1.json": json(
        enrollment.ClaimRequest(step="join", csr="-----BEGIN CERTIFICATE REQUEST-----\n", signature=b"\x30\x44"),
        enrollment.LIMIT,
    ),
    "claim-answer-1.json": json(
        enrollment.ClaimAnswer(state="joined", device="edge-1", certificate="-----BEGIN CERTIFICATE-----\n"),
        enrollment.LIMIT,
    ),
    "claim-answer-2.json": json(
        enrollment.ClaimAnswer(
            state="refused", device="edge-1", code="key-rejected", message="an operator rejected this key"
        ),
        enrollment.LIMIT,
    ),
    "blob-get-1.msgpack": Example(
        blobs.BlobGet(request=9, digest=A, first=16, mask=0b1011), blobs.encode, blobs.decode_get
    ),
    "metadata-get-1.msgpack": Example(
        blobs.MetadataGet(request=10, name="2.root.json"), blobs.encode, blobs.decode_get
    ),
    "block-1.msgpack": Example(
        blobs.Block(request=9, status=blobs.OK, number=16, length=70_000, data=b"\x00\xffbytes"),
        blobs.encode,
        blobs.decode_block,
    ),
    "blob-get-2.msgpack": Example(
        blobs.BlobGet(request=9, digest=A, first=16, mask=0b1011, shared=blobs.JOINED, last=40, still=(7, 8)),
        blobs.encode,
        blobs.decode_get,
    ),
    "shared-1.msgpack": Example(
        blobs.Shared(number=16, length=70_000, data=b"\x00\xffbytes"), blobs.encode, blobs.decode_shared
    ),
}

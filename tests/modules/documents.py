"""Strategies that make documents of the core: blobs, manifests and samples, valid by construction."""

from hypothesis import strategies as st

from modules import samples
from modules.digests import Blob
from modules.manifest import (
    Adjustable,
    EntryScript,
    File,
    Image,
    Limits,
    Manifest,
    Needs,
    OnnxGraph,
    Proof,
    Runtime,
)

# As long as a document may have them.
WORDS, LINES, TEXTS = (st.text(max_size=longest) for longest in (100, 500, 64 << 10))
SLUGS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
DEVICES = st.from_regex(r"[a-z0-9][a-z0-9-]{2,62}", fullmatch=True)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
VERSIONS = st.lists(st.integers(0, 999_999_999), min_size=1, max_size=4).map(lambda n: ".".join(map(str, n)))
# One digest is of one length and has one index, however often it is drawn.
BLOBS = DIGESTS.map(lambda one: Blob(one, int(one[7:17], 16), f"sha256:{one[:6:-1]}"))
POSITIVE = st.floats(min_value=0.001, max_value=600_000)
# Distinct and never one below another: all in one folder, each with its own number.
PATHS = st.integers(0, 20).map(lambda n: [f"model/file {i}.bin" for i in range(n)])

IMAGES = st.builds(Image, name=LINES, manifest=BLOBS, config=BLOBS, layers=st.lists(BLOBS, max_size=3).map(tuple))
RUNTIMES = st.builds(
    Runtime,
    platform=st.sampled_from(["linux/amd64", "linux/arm64"]),
    accelerator=st.sampled_from(["cpu", "cuda", "openvino"]),
    providers=st.lists(WORDS, max_size=2).map(tuple),
    image=st.none() | IMAGES,
)
ADJUSTABLES = st.fixed_dictionaries(
    {},
    optional={
        "log_level": st.just(Adjustable(default="info", choices=("debug", "info"))),
        "probation_s": st.builds(Adjustable, default=st.floats(1, 10), minimum=st.just(0.0), maximum=st.just(10.0)),
    },
)


@st.composite
def manifests(draw):
    """A manifest of a graph or of an entry script, that decodes."""
    names = ["model.onnx", "source/score.py", "samples.json", *draw(PATHS)]
    files = tuple(
        File(sha256=blob.sha256, length=blob.length, blocks=blob.blocks, path=name)
        for name, blob in ((name, draw(BLOBS)) for name in names)
    )
    return Manifest(
        team=draw(SLUGS),
        name=draw(SLUGS),
        version=draw(VERSIONS),
        serve=draw(st.sampled_from([OnnxGraph(file="model.onnx"), EntryScript(script="source/score.py")])),
        files=files,
        runtimes=tuple(draw(st.lists(RUNTIMES, min_size=1, max_size=3))),
        needs=draw(st.builds(Needs, memory_mb=st.integers(0, 10**6), disk_mb=st.integers(0, 10**6))),
        proof=draw(
            st.builds(
                Proof,
                prove=st.sampled_from(["samples", "ready-only"]),
                ready_within_s=POSITIVE,
                probation_s=st.floats(0, 7 * 86400),
                limits=st.builds(Limits, latency_ms=st.none() | POSITIVE, memory_mb=st.none() | st.integers(16, 10**6)),
            )
        ),
        adjustable=draw(ADJUSTABLES),
        opaque_files=tuple(names[3:]),
        description=draw(TEXTS),
        tags=draw(st.dictionaries(LINES, TEXTS, max_size=3)),
    )


COMPARISONS = st.one_of(
    st.just(samples.Exact()),
    st.builds(samples.Numeric, absolute=st.floats(0, 1), relative=st.floats(0, 1)),
    st.builds(samples.TopK, field=st.sampled_from(["", "scores", "scores.0"]), k=st.integers(1, 5)),
)
SAMPLES = st.builds(
    samples.Samples,
    st.lists(
        st.builds(
            samples.Sample,
            name=WORDS,
            content_type=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100),
            body=st.binary(max_size=50),
            status=st.integers(100, 599),
            answer=st.binary(max_size=50),
            compare=COMPARISONS,
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
)

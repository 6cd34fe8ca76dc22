"""Which attacks hypothesis draws, and how often which: several at once make one example."""

from hypothesis import strategies as st

from modules.signing import COMMAND_TYPE, ORDER_TYPE, REPORT_TYPE
from tests.attacks.mutations.attacks import (
    KEYS,
    Bent,
    BlobEdited,
    BlockEdited,
    Delivered,
    DocumentEdited,
    EnvelopeEdited,
    ManifestEdited,
    ManifestTwin,
    MetadataEdited,
    MetadataMoved,
    OldWorld,
    OnlineEdited,
    PayloadEdited,
    Swapped,
)
from tests.attacks.mutations.edits import bytes_edits, json_edits
from tests.attacks.mutations.world import NOW, SLOTS, STRANGER

_number = st.integers(0, 999)
_whose = st.sampled_from([None, "director", "director", *KEYS[1:]])
_ways = st.sampled_from(["instead", "ordered", "published"])
_edits = st.one_of(bytes_edits, json_edits)
_PAST, _FUTURE = NOW - 7200, NOW + 400 * 86_400
_TIMES = {"issued": _PAST, "expires": _PAST + 600}
_other_keys = st.sampled_from([({}, key, "") for key in KEYS[1:]])
_bent_orders = _other_keys | st.sampled_from(
    [
        ({"device": STRANGER}, "director", ""),
        (_TIMES, "director", ""),
        ({"counter": 0}, "director", ""),
        ({"counter": 2_000_000}, "director", ""),
        ({"issued": _FUTURE, "expires": _FUTURE + 60}, "director", ""),
        ({}, "director", COMMAND_TYPE),
        ({}, "director", REPORT_TYPE),
    ]
)
_bent_commands = _other_keys | st.sampled_from(
    [
        ({"device": STRANGER}, "director", ""),
        (_TIMES, "director", ""),
        ({"issued": _FUTURE, "expires": _FUTURE + 60}, "director", ""),
        ({"expires": NOW + 30 * 86_400}, "director", ""),
        ({"name": "decommissioned"}, "director", ""),
        ({}, "director", ORDER_TYPE),
    ]
)
_command = st.sampled_from(["0", "1", "2", "3"])
_kinds_of_envelopes = st.sampled_from(
    [
        "payload of a command",
        "payload of another device",
        "signature of a command",
        "a stranger's beside it",
        "key id",
        "none",
        "twice",
        "type",
    ]
)


def _documents(what, bent):
    return st.one_of(
        st.builds(DocumentEdited, what, bytes_edits),
        st.builds(PayloadEdited, what, json_edits, _whose),
        st.builds(lambda one, how: Bent(one, *how), what, bent),
        st.builds(EnvelopeEdited, what, _kinds_of_envelopes, _number),
    )


_blocks = st.builds(
    BlockEdited,
    st.integers(0, 24),
    st.booleans(),
    st.sampled_from(
        ["lost", "twice", "late", "raw", "number", "length", "request", "status", "data", "data", "foreign", "foreign"]
    ),
    st.integers(-3, 60),
    bytes_edits,
)
_manifests = st.one_of(
    st.builds(ManifestEdited, st.sampled_from(sorted(SLOTS)), _edits, _ways),
    st.builds(
        ManifestTwin,
        st.sampled_from([0, 0, 1]),
        st.sampled_from([("sha256",), ("sha256",), ("blocks",), ("sha256", "blocks"), ("length",)]),
        # The first two are as long as the model: of the release before, and one that nobody has published.
        st.sampled_from([1, 1, 0, 2, 3]),
        st.sampled_from(["published", "published", "ordered", "instead"]),
    ),
)
_metadata = st.one_of(
    st.builds(MetadataEdited, _number, _edits, st.sampled_from([None, None, *KEYS])),
    st.builds(MetadataMoved, st.sampled_from(["another's", "gone", "old one", "old"]), _number, _number, st.booleans()),
    st.builds(OldWorld, st.booleans()),
    st.builds(OnlineEdited, st.sampled_from(["snapshot", "timestamp"]), json_edits),
)
_blobs = st.builds(BlobEdited, _number, bytes_edits, st.one_of(st.none(), _number))
_swapped = st.builds(
    Swapped, st.sampled_from([(), ("sha256:" + "0" * 64,), ("sha256:" + "0" * 64, "sha256:" + "1" * 64)])
)
_orders = _documents(st.just("order"), _bent_orders)
_commands = st.one_of(
    _documents(_command, _bent_commands),
    st.builds(Delivered, st.sampled_from(["order as command", "other topics", "twice"])),
)
_delivered = st.builds(Delivered, st.sampled_from(["command as order", "twice", "older after", "older before"]))

#: One to three attacks on what orders bring about.
on_orders = st.lists(
    st.one_of(_orders, _orders, _blocks, _blocks, _manifests, _metadata, _metadata, _blobs, _swapped, _delivered),
    min_size=1,
    max_size=3,
)
#: One to three attacks on commands, some of them from the side of the metadata.
on_commands = st.lists(st.one_of(_commands, _commands, _commands, _metadata, _blocks), min_size=1, max_size=3)

"""Which orders a device accepts: everything through a real trust repository and real pulls."""

import shutil
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata, TargetFile

from modules import manifest
from modules.digests import sha256
from modules.errors import Invalid, LinkLost, Transient, Untrusted
from modules.names import ModuleRef
from modules.protocol.order import Cloud, SlotOrder
from tests.agent.trusting import NOW, Trusting
from tests.doubles import keys
from tests.doubles.release import make

# Long after all metadata has expired.
FAR = (NOW + timedelta(days=300)).timestamp()


@pytest.fixture
async def trusting(tmp_path):
    one = Trusting(tmp_path)
    yield one
    one.close()


async def test_an_order_is_accepted_with_its_manifests(trusting):
    """A director's order for published releases is accepted; its manifest is on the shelf, its counter remembered."""
    accepted = await trusting.accept()

    assert accepted.order.counter == 5
    assert accepted.manifests[trusting.release.digest] == trusting.release.manifest
    assert trusting.shelf.manifest(trusting.release.digest) == trusting.release.manifest
    assert sorted(accepted.marks.values()) == [5, trusting.now]


async def test_the_same_order_again_is_accepted_from_what_is_here(trusting):
    """A reconnect brings the order again; its manifest is not fetched a second time."""
    await trusting.accept()
    trusting.server.sent.clear()
    await trusting.accept()

    assert (str(trusting.release.digest), 0) not in trusting.server.sent


async def test_what_was_seen_of_trust_is_written_with_the_order(trusting):
    """An order that is accepted is one write to the disk, its adoption's; nothing is remembered of one without it."""
    accepted = await trusting.verifier.accept(trusting.envelope())

    assert trusting.store.marks() == {}
    assert set(accepted.roles) == {"root", "timestamp", "snapshot", "targets", "team-acme"}
    trusting.store.keep(accepted.roles)
    assert (await trusting.verifier.accept(trusting.envelope())).roles == {}


@pytest.mark.parametrize("order", ["a stranger's", "without a manifest"])
async def test_what_was_seen_with_a_refused_order_is_remembered(trusting, order):
    """Whatever became of an order, metadata older than what came with it is refused afterwards."""
    old = trusting.publisher.copy_files()
    trusting.publisher.release("acme/digits:3")
    if order == "a stranger's":
        with pytest.raises(Untrusted, match="0 of 1 signatures"):
            await trusting.accept(signer=keys.signer())
    else:
        trusting.server.lacks.add(str(trusting.release.digest))
        with pytest.raises(Transient):
            await trusting.accept()
    seen = trusting.store.marks()
    assert seen["timestamp"].version == 3

    trusting.server.metadata = old
    trusting.restart()
    shutil.rmtree(trusting.folder / "trust")
    trusting.restart()
    with pytest.raises(Untrusted, match="timestamp: version 2 came after version 3 had been seen"):
        await trusting.accept()
    assert trusting.store.marks() == seen


async def test_an_order_of_a_stranger_is_refused(trusting):
    """Another key than the director's signs nothing here."""
    with pytest.raises(Untrusted, match="0 of 1 signatures"):
        await trusting.accept(signer=keys.signer())
    assert trusting.marks() == {}


async def test_a_revoked_director_is_refused(trusting):
    """A director's key that the owner has replaced no longer signs."""
    old = trusting.publisher.director
    await trusting.accept()
    trusting.publisher.replace_director()
    with pytest.raises(Untrusted):
        await trusting.accept(signer=old, counter=6)

    assert (await trusting.accept(counter=6)).order.counter == 6


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"device": "dev-2"}, "other-device"),
        ({"counter": 4}, "old-order"),
        ({"issued": 1, "expires": 2}, "expired"),
    ],
)
async def test_an_order_that_is_not_for_now_and_here_is_refused(trusting, more, code):
    """For another device, older than the last one, or expired: each is refused with its reason."""
    await trusting.accept()
    with pytest.raises(Untrusted, match=code):
        await trusting.accept(**more)


async def test_an_unpublished_release_is_refused(trusting):
    """The director alone brings in no code."""
    other = make("acme/digits:9")
    with pytest.raises(Untrusted, match="not-published"):
        await trusting.accept(ordered=other.ordered())


async def test_another_digest_than_the_publishers_is_refused(trusting):
    """Director and publisher must agree on the digest."""
    ordered = SlotOrder(manifest="modules/acme/digits/2.json", digest=sha256(b"other"))
    with pytest.raises(Untrusted, match="digest-mismatch"):
        await trusting.accept(ordered=ordered)


async def test_a_release_below_the_floor_is_refused(trusting):
    """A stolen director key cannot go below what the publisher allows."""
    trusting.publisher.release("acme/digits:3")
    trusting.publisher.set_floor("acme/digits:3")
    with pytest.raises(Untrusted, match="below-floor"):
        await trusting.accept()


async def test_a_tampered_manifest_is_not_taken(trusting):
    """Other bytes than were signed are no manifest; the order may be tried again."""
    trusting.server.blobs[trusting.release.digest] = b"x" * len(trusting.release.data)
    with pytest.raises(Transient, match="not what was signed"):
        await trusting.accept()

    assert not list(trusting.shelf.folder.iterdir())


async def test_a_manifest_damaged_on_disk_is_fetched_again(trusting):
    """What lies on the device is checked like what comes, and mended."""
    await trusting.accept()
    (path,) = trusting.shelf.folder.glob("*.manifest")
    path.write_bytes(b"changed")
    await trusting.accept()

    assert path.read_bytes() == trusting.release.data


def sign_anything(publisher, ref, data):
    """What a team can do with tools of its own: sign bytes that ours would refuse."""
    named = ModuleRef.parse(ref)
    team = Metadata.from_bytes(publisher.teams[named.team])
    team.signed.targets[named.target] = TargetFile.from_data(named.target, data, ["sha256"])
    team.signed.version += 1
    team.sign(publisher.team_signers[named.team])
    publisher.teams[named.team] = team.to_bytes()
    publisher.targets[sha256(data)] = data
    publisher.publish()


async def test_a_manifest_under_another_path_is_refused(trusting):
    """A team cannot publish one module's manifest as another; nothing of it stays here."""
    sign_anything(trusting.publisher, "acme/other:1", trusting.release.data)
    ordered = SlotOrder(manifest="modules/acme/other/1.json", digest=trusting.release.digest)
    with pytest.raises(Untrusted, match="another module"):
        await trusting.accept(ordered=ordered)
    assert list(trusting.shelf.folder.iterdir()) == []


async def test_a_manifest_that_is_none_is_invalid(trusting):
    """A publisher can sign nonsense; it is refused as such."""
    sign_anything(trusting.publisher, "acme/digits:7", b"{}")
    ordered = SlotOrder(manifest="modules/acme/digits/7.json", digest=sha256(b"{}"))
    with pytest.raises(Invalid, match="manifest"):
        await trusting.accept(ordered=ordered)


async def test_a_manifest_that_is_too_large_is_not_fetched(trusting):
    """What the publisher signed as longer than a manifest may be is not asked for."""
    data = b"x" * (manifest.LIMIT + 1)
    sign_anything(trusting.publisher, "acme/digits:7", data)
    ordered = SlotOrder(manifest="modules/acme/digits/7.json", digest=sha256(data))
    with pytest.raises(Untrusted, match="too large"):
        await trusting.accept(ordered=ordered)


@pytest.mark.parametrize(
    "ordered",
    [
        {"settings": {"log_level": "debug"}},
        {"settings": {"probation_s": 5.0}},
        {"fallback": "https://evil.test/score"},
        {"fallback": "https://[::1"},
        {"fallback": "https://cloud.example:99999/"},
        {"cloud": Cloud(url="https://evil.test/score", region="eu-west")},
        {"cloud": Cloud(url="https://cloud.example/digits", region="us-east")},
        {"fallback": "https://cloud.example/digits"},
    ],
)
async def test_an_order_cannot_set_what_the_publisher_did_not_allow(trusting, ordered):
    """A setting not adjustable or out of bounds, a foreign fallback host, a region where the data may not go."""
    with pytest.raises(Invalid):
        await trusting.accept(ordered=trusting.release.ordered(**ordered))

    assert trusting.marks() == {}
    assert list(trusting.shelf.folder.iterdir()) == []


async def test_what_the_publisher_allows_is_accepted(trusting):
    """An adjustable setting within its bounds, and a fallback at an allowed host where the data may go."""
    cloud = Cloud(url="https://cloud.example/digits", region="eu-west")
    ordered = trusting.release.ordered(settings={"probation_s": 20.0}, cloud=cloud)

    assert (await trusting.accept(ordered=ordered)).order.slots["main"] == ordered


@pytest.mark.parametrize("fault", ["silent", "down"])
async def test_a_lost_link_only_delays(trusting, fault):
    """Without the server an order can be tried again, and is then accepted."""
    setattr(trusting.server, fault, True)
    with pytest.raises(LinkLost):
        await trusting.accept()

    setattr(trusting.server, fault, False)
    await trusting.accept()


async def test_expired_metadata_blocks_new_orders(trusting):
    """A replayed old repository accepts nothing new."""
    trusting.now += 400 * 86400
    with pytest.raises(Untrusted, match="expired"):
        await trusting.accept()


async def test_time_never_goes_back(trusting):
    """What an accepted order taught about the time outlives a clock that is set back."""
    await trusting.accept()
    trusting.now -= 5 * 86400  # as an order from the days before would have it, but for what is remembered
    with pytest.raises(Untrusted, match=r"the order expired at 2026-11-26"):
        await trusting.accept(counter=6)


async def test_time_that_orders_taught_holds_for_metadata(trusting):
    """Without a clock old metadata is not played back for ever: orders move the time on, until it has expired."""
    trusting.now = 0.0
    far = {"issued": int(FAR), "expires": int(FAR) + 86400}
    for counter in range(5, 30):  # a day each, from the day that this agent was written
        await trusting.accept(counter=counter, **far)
    with pytest.raises(Untrusted, match="it expired at 2026-12-15 12:00 UTC, so nothing new is accepted"):
        await trusting.accept(counter=30, **far)


async def test_metadata_that_expired_before_the_agent_was_written_is_not_believed(trusting):
    """A device without a clock takes nothing of it, not even its version."""
    trusting.publisher.later(days=-300)
    trusting.publisher.publish()
    trusting.now = 0.0
    with pytest.raises(Untrusted, match="expired"):
        await trusting.accept()

    assert trusting.store.marks() == {}


async def test_metadata_longer_than_allowed_is_refused(trusting):
    """A hostile server cannot fill the memory with metadata."""
    trusting.server.metadata["timestamp.json"] = b" " * (1 << 20)
    with pytest.raises(Untrusted, match="more"):
        await trusting.accept()

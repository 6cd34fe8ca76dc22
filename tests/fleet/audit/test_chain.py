"""The audit log's chain: an edit, a deletion, a cut and a new chain are all found; what is whole is not blamed."""

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner

from fleet.audit.chain import BEGIN, Entry, Head, link, sign, verify

SIGNER = CryptoSigner.generate_ed25519()
KEYS = {SIGNER.public_key.keyid: SIGNER.public_key}


def chained(rows, before=BEGIN):
    """The same rows, hashed anew from the first on."""
    made = []
    for row in rows:
        hashed = link(before, row)
        made.append(msgspec.structs.replace(row, hash=hashed))
        before = hashed
    return made


def row(number, **changed):
    said = {"by": "ann", "origin": "10.0.0.1", "action": "POST /x", "target": "/x/1", "outcome": 200, "code": ""}
    return Entry(id=number, at=1000.5 + number, hash=BEGIN, **(said | changed))


LOG = chained([row(number) for number in range(1, 11)])
HEADS = [sign(Head(at=2000, id=number, hash=LOG[number - 1].hash), SIGNER) for number in (4, 8)]


def codes(rows, heads=HEADS, keys=KEYS):
    return [flaw.code for flaw in verify(rows, heads, keys).flaws]


def test_a_whole_log_is_proved_up_to_its_last_head():
    """Rows that nobody touched fit; those after the last head are counted apart."""
    found = verify(LOG, HEADS, KEYS)

    assert found.flaws == ()
    assert (found.rows, found.proved, found.heads) == (10, 8, 2)
    assert verify([], [], KEYS).flaws == ()


@pytest.mark.parametrize("field", ["by", "origin", "action", "target", "code"])
def test_an_edited_word_is_found(field):
    """No text of a row can be changed, and no number."""
    changed = [*LOG[:5], msgspec.structs.replace(LOG[5], **{field: "bob"}), *LOG[6:]]

    assert codes(changed)[0] == "edited"


@pytest.mark.parametrize(("field", "value"), [("at", 1.0), ("outcome", 403), ("hash", "f" * 64)])
def test_an_edited_number_is_found(field, value):
    """Neither time nor outcome nor the hash itself can be changed."""
    assert codes([*LOG[:5], msgspec.structs.replace(LOG[5], **{field: value}), *LOG[6:]])[0] == "edited"


def test_a_removed_row_is_found():
    """From the middle or from the beginning."""
    assert "missing" in codes([*LOG[:5], *LOG[6:]])
    assert "missing" in codes(LOG[2:])


def test_two_rows_that_changed_places_are_found():
    """Order is part of it, even where the numbers are put right."""
    swapped = [msgspec.structs.replace(LOG[6], id=6), msgspec.structs.replace(LOG[5], id=7)]

    assert "edited" in codes([*LOG[:5], *swapped, *LOG[7:]])


def test_a_log_that_was_cut_off_is_found():
    """A head says that there was more; without one, nobody can know."""
    assert codes(LOG[:7]) == ["cut"]
    assert codes(LOG[:9]) == []


def test_a_log_that_was_chained_anew_is_found():
    """Whoever changes a row and hashes all that follow is given away by the heads that were signed before."""
    anew = chained([*LOG[:5], msgspec.structs.replace(LOG[5], by="bob"), *LOG[6:]])

    assert codes(anew) == ["re-chained"]
    assert codes(anew, heads=HEADS[:1]) == []  # of the rows after its last head, nothing is known


def test_a_head_of_another_key_counts_for_nothing():
    """A thief's head neither proves a changed log nor stays unnoticed."""
    thief = CryptoSigner.generate_ed25519()
    anew = chained([msgspec.structs.replace(one, by="bob") for one in LOG])
    forged = sign(Head(at=3000, id=10, hash=anew[-1].hash), thief)

    assert codes(anew, heads=[forged]) == ["forged-head"]
    assert codes(anew, heads=[*HEADS, forged]).count("re-chained") == 2
    assert verify(LOG, [*HEADS, b"{}", b"not json"], KEYS).proved == 8


def edited(number):
    """The log with another name in one row."""
    return [*LOG[: number - 1], msgspec.structs.replace(LOG[number - 1], by="bob"), *LOG[number:]]


@pytest.mark.parametrize(
    ("rows", "heads", "flaws", "proved"),
    [
        (LOG, [], [], 0),
        (edited(1), [], [("edited", 1)], 0),
        (edited(10), [], [("edited", 10)], 0),
        ([*LOG[:3], *LOG[5:]], [], [("missing", 4)], 0),
        ([*LOG[:3], *edited(7)[5:]], [], [("missing", 4), ("edited", 7)], 0),
        (LOG[:7], HEADS, [("cut", 8)], 4),
        ([], HEADS, [("cut", 1)], 0),
        (LOG, [b"{}"], [("forged-head", 0)], 0),
        (chained(edited(6)), HEADS, [("re-chained", 8)], 4),
    ],
)
def test_each_flaw_is_told_once_with_its_row(rows, heads, flaws, proved):
    """Whoever reads it looks there first."""
    found = verify(rows, heads, KEYS)
    assert [(flaw.code, flaw.id) for flaw in found.flaws] == flaws
    assert found.proved == proved


def test_a_head_of_an_empty_log_says_nothing_of_rows():
    """There were none yet."""
    head = sign(Head(at=1000, id=0, hash=BEGIN), SIGNER)
    for rows in ([], LOG):
        assert verify(rows, [head], KEYS)[2:] == (0, ())


def test_a_log_of_an_earlier_version_is_still_whole():
    """Neither what the first row follows nor what a hash is of may change."""
    assert LOG[0].hash == "6a7f1dab41be920ee92477cc497bf66b3fba68ddb62ebdc22e7297f339789504"

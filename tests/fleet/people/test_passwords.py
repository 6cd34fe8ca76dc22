"""Passwords: what may be chosen, and how many are computed at a time."""

import re
import threading

import pytest
from argon2.exceptions import VerifyMismatchError

from fleet.people import passwords
from fleet.people.passwords import Passwords
from fleet.refusals import Busy
from modules.errors import Invalid


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "x" * 11,
        "password1234",
        "Password12345!",
        "qwertyuiop123456",
        "123456789012",
        "aaaaaaaaaaaaaaaa",
        "iloveyou1234",
        "edgefleet1234",
        "maria-maria-12",
        "letmein2026!",
        "x" * 1025,
    ],
)
def test_what_is_tried_first_may_not_be_chosen(password):
    """Leaked ones with something behind, rows of keys, repetitions, the own name."""
    with pytest.raises(Invalid):
        passwords.check_choice(password, "maria")


@pytest.mark.parametrize(
    "password", ["turquoise walrus 7 lantern", "kV9#qLz!t2Wp", "Größe-wählt-Möwe-41", "walrus-lantern"]
)
def test_what_nobody_guesses_may_be_chosen(password):
    """Words that do not belong together, and what a manager makes; the last one is only just good enough."""
    passwords.check_choice(password, "maria")


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("kV9#qLz!t2W", "at least 12 characters"),
        ("kV9#qLz!t2Wp" * 86, "at most 1024 bytes"),
        ("password1234", "not good enough: This is a very common password$"),
        ("turquoise42!", "not good enough: it is guessed soon$"),
        ("kV9#-MARIA-qLz!t2Wp", "not good enough: it has the operator's name in it$"),
    ],
)
def test_a_refusal_says_why(password, why):
    """In the estimate's words where it has some; a name in other letters is the name all the same."""
    with pytest.raises(Invalid) as refused:
        passwords.check_choice(password, "Maria")
    assert re.search(why, refused.value.message)


def test_as_many_bytes_as_a_password_may_have_and_no_more():
    """Counted as they are sent, not as letters."""
    for most in ("x" * 1024, "ü" * 512):
        passwords.check_length(most)
        with pytest.raises(Invalid, match="at most 1024 bytes"):
            passwords.check_length(f"{most}x")


def test_what_the_server_gives_is_good_enough_and_never_the_same():
    """A hundred of them."""
    given = {passwords.made() for _ in range(100)}
    assert len(given) == 100
    for one in given:
        assert re.fullmatch(r"\w{6}(-\w{6}){3}", one)
        passwords.check_choice(one, "maria")


def test_hashes_are_argon2id_and_differ_for_the_same_password():
    """With the library's own parameters and a salt each."""
    made = Passwords()
    first, second = made.hashed("turquoise walrus"), made.hashed("turquoise walrus")
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second
    assert made.right(first, "turquoise walrus")
    assert not made.right(first, "turquoise walrut")
    assert not made.right(None, "turquoise walrus")
    assert not made.right("not a hash", "turquoise walrus")


def test_somebody_unknown_takes_as_long_as_anybody():
    """Their password is held against a hash with the same work in it, which is computed to its end."""
    made = Passwords()
    assert not made._hasher.check_needs_rehash(made._nobody)
    with pytest.raises(VerifyMismatchError):
        made._hasher.verify(made._nobody, "turquoise walrus")


def test_no_more_hashes_at_a_time_than_said():
    """Whoever comes while all turns are taken waits, and beyond the places is refused at once."""
    made = Passwords(at_once=2, may_wait=1, wait_s=0.05)
    inside, most, lock, go = 0, 0, threading.Lock(), threading.Event()

    class Slow:
        def hash(self, _):
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            go.wait(10)
            with lock:
                inside -= 1
            return "hash"

    made._hasher = Slow()
    outcomes = []

    def work():
        try:
            outcomes.append(made.hashed("x"))
        except Busy:
            outcomes.append("busy")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for one in threads:
        one.start()
    while outcomes.count("busy") < 4:
        pass
    go.set()
    for one in threads:
        one.join()
    assert most == 2
    assert sorted(outcomes) == ["busy"] * 4 + ["hash"] * 2
    assert made.hashed("x") == "hash"

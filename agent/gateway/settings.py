"""Every bound of the gateway, in one frozen value."""

from pathlib import Path
from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway may use. Sizes in bytes, times in seconds."""

    table: Path
    #: names, beside localhost and addresses, under which clients may ask; and pages' hosts that may
    hosts: tuple[str, ...] = ()
    #: hosts of fallbacks that may lie in a private network or on this device
    private_fallbacks: tuple[str, ...] = ()
    #: who may ask an endpoint, a JSON file; without it the gateway serves programs of this device
    access: Path | None = None
    #: certificate with its chain, and key, in PEM, where an endpoint speaks TLS itself
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    #: where it is kept how many requests went to the cloud today; None: nowhere
    spent: Path | None = None
    #: connections at a time; the one that has waited longest without a request makes room
    connections: Positive = 1024
    #: how long a new connection may take to send the head of its first request
    head_s: Seconds = 15.0
    #: largest request body; a longer one is answered 413; for a module in a container less, by its memory
    max_body: Positive = 256 << 20
    #: a body up to this size is kept until the answer begins, so that it can be sent a second time
    replay_body: Count = 16 << 20
    #: all kept bodies together; beyond it bodies are passed on as they come, without a second try
    replay_total: Count = 64 << 20
    #: an answer of known length up to this size is sent in one piece
    whole_answer: Count = 256 << 10
    #: requests that one slot works on at a time; the others wait
    concurrent: Positive = 64
    #: requests that may wait for a slot; one more is answered 429
    waiting: Count = 256
    wait_s: Seconds = 10.0
    #: requests that may wait while a slot is held for a swap
    held: Count = 64
    hold_s: Seconds = 15.0
    connect_s: Seconds = 2.0
    #: longest silence of an upstream before and within its answer
    answer_s: Seconds = 300.0
    #: longest silence of a client within its request body
    body_s: Seconds = 30.0
    #: requests that a slot has under way to the cloud at a time; they take no place of those that are answered here
    cloud_concurrent: Positive = 32
    #: requests that may wait for one of these places
    cloud_waiting: Count = 256
    cloud_wait_s: Seconds = 5.0
    #: longest silence of a fallback before and within its answer
    cloud_answer_s: Seconds = 60.0
    #: failures in a row after which a fallback is left alone, how long at first, and how long at most
    cloud_failures: Positive = 3
    cloud_pause_s: Seconds = 2.0
    cloud_longest_pause_s: Seconds = 60.0
    #: shorter than the time after which the scoring server closes an idle connection, so that none is found closed
    idle_s: Seconds = 4.0
    #: a connection accepted just before the gateway stops gets this long to send its request
    grace_s: Seconds = 0.25
    #: how long a stopping gateway lets running requests finish
    drain_s: Seconds = 30.0

"""Eight clients that ask a graph at once, each of which knows its answers from a session of its own."""

import json
import threading

import numpy as np

CLIENTS = 8


def settled(server):
    """The server's status once it has been decided whether requests share runs."""
    found = []

    def decided():
        found.append(server.ask("/edgefleet/status").json)
        return found[-1]["batch_size"] > 1 or "measured" not in found[-1]["batch_reason"]

    server.until(decided, "a decision on batches")
    return found[-1]


def wrong(server, session, made, requests):
    """How many of ``requests`` by eight clients at once had another answer than a lone run gives.

    ``made(generator)`` makes the feeds of one request.
    """
    names = [one.name for one in session.get_outputs()]
    found, errors = [], []

    def client(seed):
        generator = np.random.default_rng(seed)
        connection = server.connect()
        try:
            for _ in range(requests // CLIENTS):
                feeds = made(generator)
                expected = dict(zip(names, session.run(None, feeds), strict=True))
                body = json.dumps({name: value.tolist() for name, value in feeds.items()})
                connection.request("POST", "/score", body)
                reply = connection.getresponse()
                answer = reply.read()
                assert reply.status == 200, answer
                found.append(not same(json.loads(answer), expected))
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client, args=[seed]) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(found) == requests // CLIENTS * CLIENTS
    return sum(found)


def same(answer, expected):
    def close(got, want):
        got = np.array(got, want.dtype).reshape(want.shape if np.size(got) == want.size else np.shape(got))
        return got.shape == want.shape and np.allclose(got, want, 1e-3, 1e-4, equal_nan=True)

    return answer.keys() == expected.keys() and all(close(answer[name], want) for name, want in expected.items())

"""The MQTT library's client where the broker hangs up while it still connects."""

import asyncio
import socket

from agent.mqtt_client import Client


async def test_a_socket_that_was_closed_meanwhile_is_not_watched(caplog):
    """The thread that connects asks the loop to watch a socket, which the loop closes before it comes to that: nothing
    is logged as an error of the loop's own, and whoever has that number now is left alone."""
    loop, wrong = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, said: wrong.append(said))
    client = Client("broker.example")
    ours, far = socket.socketpair()
    client._on_socket_register_write(client._client, None, ours)
    number = ours.fileno()
    ours.close()
    await asyncio.sleep(0)

    assert wrong == []
    client._on_socket_register_write(client._client, None, far)
    await asyncio.sleep(0)
    assert loop.remove_writer(far.fileno())
    assert not loop.remove_writer(number)
    far.close()

"""A proxy as companies have one: clients reach HTTPS servers through it by CONNECT."""

import contextlib
import socket
import threading


class ConnectProxy:
    """A proxy that only knows CONNECT, one connection at a time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client:
                if not (head := self._head(client)):
                    return
                lines = head.decode().split("\r\n")
                to = lines[0].split()[1]
                fields = dict(line.split(": ", 1) for line in lines[1:] if line)
                self.asked.append((to, fields.get("Proxy-Authorization", "")))
                host, port = to.rsplit(":", 1)
                with socket.create_connection((host, int(port))) as server:
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    back = threading.Thread(target=self._pump, args=(server, client))
                    back.start()
                    self._pump(client, server)
                    back.join()

    @staticmethod
    def _head(client) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and (some := client.recv(4096)):
            head += some
        return head

    @staticmethod
    def _pump(source, sink) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(65536):
                sink.sendall(some)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(10)
        self._listener.close()

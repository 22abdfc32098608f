"""A TCP forwarder that can lose the way: what it is sent then is swallowed, and nobody is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

_BLOCK = 1 << 16


class Forwarder:
    """Forwards connections to an address, from a port of this machine."""

    def __init__(self, target: str) -> None:
        """`target` is host:port."""
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._lost = threading.Event()
        """Replaced when the way is found again: connections from before stay lost."""

    def swallow(self) -> None:
        """From now on nothing goes through, in open connections and new ones, and none is closed."""
        self._lost.set()

    def heal(self) -> None:
        """Let new connections through; those that are open stay lost."""
        self._lost = threading.Event()

    def __enter__(self) -> Forwarder:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An accept that is waiting keeps a listener open that is only closed.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                lost = self._lost
                self._open.append(here)
                if lost.is_set():
                    continue
                there = socket.create_connection(self._target)
                self._open.append(there)
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=_pump, args=(source, sink, lost), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, lost: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_BLOCK):
            if not lost.is_set():
                sink.sendall(data)
        if not lost.is_set():
            sink.shutdown(socket.SHUT_WR)

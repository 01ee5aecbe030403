"""Servers on the loopback that tests script, with real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

Handler = Callable[[Any], None]
MakeServer = Callable[..., AbstractContextManager[int]]


@contextmanager
def _scripted(handler: Handler, port: int = 0, **options: Any) -> Iterator[int]:
    """Serve `handler(connection)` on a port of the loopback, which is given back at the end."""
    from websockets.sync.server import serve

    open_ones: list[Any] = []

    def noted(connection: Any) -> None:
        open_ones.append(connection)
        handler(connection)

    server = serve(noted, "127.0.0.1", port, compression=None, max_size=2**25, close_timeout=0.2, **options)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        for connection in open_ones:  # before version 17 of websockets, shutting down leaves them open
            connection.close()
        thread.join()


@pytest.fixture(name="scripted_server")
def _scripted_server() -> MakeServer:
    pytest.importorskip("websockets", reason="websockets is not installed (extra remote)")
    pytest.importorskip("msgpack", reason="msgpack is not installed (extra remote)")
    return _scripted

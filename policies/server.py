"""A small policy server of openpi's protocol, which serves this package's policies on this machine.

It listens on the loopback unless it was given a token, and says little to strangers: errors go to the log in full, to
the client as a word. Browsers are turned away, so that no web page can reach it by a name of its own.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from vap_sim.errors import InvalidInput, MissingDependency, VAPSimError
from vap_sim.policies.client import DEFAULT_PORT
from vap_sim.policies.served import ServedPolicy, Session
from vap_sim.policies.wire import LARGEST_MESSAGE, BadMessage, pack, unpack

_LOG = logging.getLogger(__name__)
_TRY_AGAIN_LATER, _GOING_AWAY = 1013, 1001


class PolicyServer:
    """Serves a policy in threads of its own, from `with PolicyServer(...) as server:` to the end of the block.

    host: a loopback address, or any where a token is given, which clients then send as `Authorization: Api-Key TOKEN`;
    port: 0 for a free one, see `port`; sessions: clients at a time; idle: seconds without a request after which a
    client is let go. Raises InvalidInput, MissingDependency without the extra remote, OSError for a port in use.
    """

    def __init__(
        self,
        served: ServedPolicy,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        token: str | None = None,
        sessions: int = 8,
        idle: float = 300.0,
    ) -> None:
        if token is not None and (len(token) < 8 or not token.isascii() or not token.isprintable()):
            raise InvalidInput("token of a policy server", "one too short or with odd signs", "8 or more ASCII signs")
        if token is None and not _is_loopback(host):
            raise InvalidInput("host of a policy server", host, "a loopback address, or a token that clients must send")
        if not 0 <= port < 65536 or sessions < 1 or not idle > 0:
            given = f"port {port}, {sessions} sessions, {idle} s idle"
            raise InvalidInput("policy server", given, "a port below 65536, at least one session, some idle time")
        try:
            from websockets.sync.server import serve
        except ImportError as error:
            raise MissingDependency("websockets", "remote") from error
        self._served, self._token, self._idle = served, token, idle
        self._free = threading.BoundedSemaphore(sessions)
        self._turn = threading.Lock()  # one decision at a time: policies share their network
        self._server = serve(
            self._handle,
            host,
            port,
            process_request=self._admit,
            origins=[None],
            max_size=LARGEST_MESSAGE,
            compression=None,
            open_timeout=10,
            close_timeout=1,
            # A client that thinks for long is let go by `idle`, not because it does not answer pings.
            ping_interval=None,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="policy server", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.socket.getsockname()[1])

    def __enter__(self) -> PolicyServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()

    def wait(self) -> None:
        """Serve until the process is interrupted; use within the `with` block."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    def _admit(self, connection: Any, request: Any) -> Any:
        """None to go on with the handshake, else the HTTP answer."""
        if request.path == "/healthz":
            return connection.respond(200, "OK\n")
        if self._token is not None:
            sent = request.headers.get_all("Authorization")
            wanted = f"Api-Key {self._token}".encode()
            if len(sent) != 1 or not hmac.compare_digest(sent[0].encode("utf-8", "replace"), wanted):
                return connection.respond(401, "A token is needed.\n")
        return None

    def _handle(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        if not self._free.acquire(blocking=False):
            connection.close(_TRY_AGAIN_LATER, "all sessions are taken")
            return
        try:
            with suppress(ConnectionClosed):
                self._converse(connection)
        finally:
            self._free.release()

    def _converse(self, connection: Any) -> None:
        session = Session()
        connection.send(pack(self._served.metadata()))
        while True:
            try:
                message = connection.recv(timeout=self._idle)
            except TimeoutError:
                return connection.close(_GOING_AWAY, "idle")  # type: ignore[no-any-return]
            try:
                request = unpack(message)
                with self._turn:
                    reply, session = self._served.answer(request, session)
                answer = pack(reply)
            except (BadMessage, InvalidInput):
                _LOG.warning("a request was refused", exc_info=True)
                return self._give_up(connection, "bad request")
            except (VAPSimError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
                _LOG.exception("a request could not be answered")
                return self._give_up(connection, "internal error")
            connection.send(answer)

    def _give_up(self, connection: Any, word: str) -> None:
        """A text message means an error in this protocol; what exactly went wrong is for the log."""
        connection.send(f"policy server: {word}")
        connection.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""One connection to a policy server of openpi's protocol: bounded in time, size and tries, reopened when broken."""

from __future__ import annotations

import os
import re
import time
import weakref
from collections.abc import Mapping
from typing import Any

from vap_sim.errors import InvalidInput, MissingDependency
from vap_sim.policies.policy import PolicyFault
from vap_sim.policies.wire import LARGEST_MESSAGE, BadMessage, pack, unpack

DEFAULT_PORT = 8000
_ADDRESS = re.compile(r"(?:(?P<scheme>wss?)://)?(?P<host>\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?")
_FIRST_WAIT = 0.1  # [s] before the second try; doubled for each further one
_LONGEST_WAIT = 2.0


def server_address(text: str) -> str:
    """The address `ws://HOST:PORT` from "HOST", "HOST:PORT" or one with ws:// or wss://; the port is 8000 by default.

    An IPv6 address stands in brackets. Raises InvalidInput."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"] or DEFAULT_PORT) < 65536:
        raise InvalidInput("address of a policy server", text, "HOST:PORT, for example localhost:8000")
    return f"{match['scheme'] or 'ws'}://{match['host']}:{match['port'] or DEFAULT_PORT}"


class PolicyClient:
    """Asks a server and waits for its answer. Opens the connection when first asked, and anew in another process.

    address: from `server_address`; timeout [s]: for connecting and for each answer; retries: further tries after a
    connection could not be made or broke; token: sent as `Authorization: Api-Key TOKEN`.
    """

    def __init__(self, address: str, *, timeout: float = 10.0, retries: int = 3, token: str | None = None) -> None:
        if not 0 < timeout <= 3600:
            raise InvalidInput("timeout of a policy server", timeout, "more than 0 and at most 3600 seconds")
        if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 100:
            raise InvalidInput("retries for a policy server", retries, "0 to 100")
        self.address, self.timeout, self.retries, self._token = address, float(timeout), retries, token
        self._connection: Any = None
        self._closer: weakref.finalize[..., PolicyClient] | None = None  # a client that is let go of hangs up
        self._metadata: dict[str, Any] = {}
        self._process = 0

    @property
    def name(self) -> str:
        """What messages call the server."""
        return f"openpi@{self.address.partition('://')[2]}"

    def metadata(self) -> Mapping[str, Any]:
        """What the server tells about itself on connecting. Raises PolicyFault when it cannot be reached."""
        self._try(None)
        return self._metadata

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request.

        Raises PolicyFault: the server cannot be reached or dies in every try, answers too late, refuses, reports an
        error of its own, or sends what is no message. BadMessage: the request itself cannot be sent."""
        return self._try(pack(request))

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        closer, self._closer, self._connection = self._closer, None, None
        if closer is not None:
            closer()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None, "_closer": None}

    def _try(self, message: bytes | None) -> dict[str, Any]:
        websockets = _websockets()
        wait = _FIRST_WAIT
        for attempt in range(self.retries + 1):
            try:
                self._open(websockets)
                return {} if message is None else self._exchange(message)
            except PolicyFault:
                self.close()
                raise
            except (OSError, EOFError, websockets.exceptions.WebSocketException) as error:
                self.close()
                self._refused(error)
                if attempt == self.retries:
                    reason = f"{type(error).__name__}: {error}".rstrip(": ")
                    problem = f"the server does not answer or died, in {attempt + 1} tries ({reason[:200]})"
                    raise PolicyFault(self.name, problem) from error
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
        raise AssertionError("the last try returns or raises")

    def _open(self, websockets: Any) -> None:
        if self._connection is not None and self._process == os.getpid():
            return
        headers = None if self._token is None else {"Authorization": f"Api-Key {self._token}"}
        opened = websockets.sync.client.connect(
            self.address,
            open_timeout=self.timeout,
            close_timeout=1,
            max_size=LARGEST_MESSAGE,
            compression=None,
            additional_headers=headers,
            proxy=None,
            # A server that thinks does not answer pings; the timeout of its answer is what bounds it.
            ping_interval=None,
        )
        self._connection = opened.__enter__()  # as newer versions want it; `close` is the other end
        self._process = os.getpid()
        self._closer = weakref.finalize(self, _hang_up, self._connection, self._process)
        self._metadata = self._receive("its metadata")

    def _exchange(self, message: bytes) -> dict[str, Any]:
        self._connection.send(message)
        return self._receive("an answer")

    def _receive(self, what: str) -> dict[str, Any]:
        try:
            answer = self._connection.recv(timeout=self.timeout)
        except TimeoutError as error:
            raise PolicyFault(self.name, f"the server did not send {what} within {self.timeout:g} s") from error
        if isinstance(answer, str):
            raise PolicyFault(self.name, f"the server reports an error: {_last_line(answer)}")
        try:
            values = unpack(answer)
        except BadMessage as error:
            raise PolicyFault(self.name, f"the server sent a bad message: {error}") from error
        if not isinstance(values, dict):
            raise PolicyFault(self.name, f"the server sent {type(values).__name__} as {what}, expected a map")
        return values

    def _refused(self, error: Exception) -> None:
        """Raise PolicyFault where trying again is of no use."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise PolicyFault(self.name, f"the server refuses the token (HTTP {status})") from error


def _hang_up(connection: Any, process: int) -> None:
    """Close a connection, unless it belongs to the process that this one was forked from."""
    if process == os.getpid():
        connection.close()


def _last_line(text: str) -> str:
    """The last line of a traceback says what happened; nothing of it may control a terminal."""
    lines = [line.strip() for line in text[-2000:].splitlines() if line.strip()]
    return "".join(sign for sign in (lines[-1] if lines else "") if sign.isprintable())[:200]


def _websockets() -> Any:
    try:
        import websockets.exceptions
        import websockets.sync.client
    except ImportError as error:
        raise MissingDependency("websockets", "remote") from error
    return websockets

"""The guarded front of a viser server: one port, and nothing behind it for those who may not enter.

viser has no authentication, takes the next port where one is in use, lets any web page connect, and can open a public
tunnel when a page asks. Here the port is bound before viser starts, and every request passes this gate first: the name
it was sent to, its origin, a token where the host is not the loopback, the number of pages, and the size and rate of
messages.
"""

from __future__ import annotations

import gzip
import hmac
import http
import io
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vap_sim.errors import InvalidInput, MissingDependency, Unsupported

_LOG = logging.getLogger(__name__)
COOKIE, INPUT_PATH = "vap_sim_token", "/input"
_SCRIPT = Path(__file__).with_name("teleop_input.js")
_POLICY_VIOLATION = 1008
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_patching = threading.Lock()
# Every refused or broken connection would leave a traceback in the terminal; what matters is told by _LOG.
_CONNECTIONS = logging.getLogger(f"{__name__}.connections")
_CONNECTIONS.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class GateLimits:
    """Pages open at a time, bytes of one message from a page, and messages a page may send in a second."""

    pages: int = 8
    message_bytes: int = 2**18
    messages_a_second: int = 400

    def __post_init__(self) -> None:
        if min(self.pages, self.message_bytes, self.messages_a_second) < 1:
            raise InvalidInput("limits of the page's server", self, "at least 1 of each")


class Gate:
    """A bound port and what guards it. `server` of viser is made by `open_server`, None before; `on_input` handles the
    connection over which the page tells of keys and gamepads.

    Raises InvalidInput for another host than the loopback without a token, or a token that is too short; Unsupported
    for a port in use, naming it."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 8080, token: str | None = None, limits: GateLimits | None = None
    ) -> None:
        if token is not None and (
            len(token) < 8 or not all("!" <= sign <= "~" and sign not in '";,\\' for sign in token)
        ):
            expected = "8 or more ASCII letters, digits and signs without blanks, quotes, commas and semicolons"
            raise InvalidInput("token of the page", "one too short or with odd signs", expected)
        if token is None and not is_loopback(host):
            raise InvalidInput("--host", host, "a loopback address, or a token (variable VAP_SIM_TELEOP_TOKEN)")
        if not 0 <= port < 65536:
            raise InvalidInput("--port", port, "0 (any free one) to 65535")
        self.host, self.limits = host, limits or GateLimits()
        self.server: Any = None
        self.on_input: Callable[[Any], Awaitable[None]] | None = None
        self.refused = 0
        self._token, self._used = token, False
        self._open: set[Any] = set()
        self._socket = _bound(host, port)
        self.port = int(self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """What to open in a browser; holds the token where there is one."""
        wild = self.host in ("0.0.0.0", "::", "")
        name = socket.gethostname() if wild else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/" + (f"?token={self._token}" if self._token else "")

    @property
    def pages(self) -> int:
        """Pages that are open now."""
        return len(self._open)

    def open_server(self, label: str) -> Any:
        """A viser server that listens behind this gate and nowhere else. Raises MissingDependency without the extra
        view, Unsupported for a viser that serves in another way."""
        try:
            import viser
        except ImportError as error:
            raise MissingDependency("viser", "view") from error

        class Server(viser.ViserServer):  # type: ignore[misc]
            """A viser server that never opens a tunnel to the public."""

            def request_share_url(self, verbose: bool = True) -> None:
                _LOG.warning("a page asked for a public address; that is not offered here")

        # viser prints an address of its own, which would lack the token.
        with self._in_front_of("viser.infra._infra"), redirect_stdout(io.StringIO()):
            server = Server(host=self.host, port=self.port, label=label, verbose=False)
        if not self._used:
            server.stop()
            raise Unsupported(f"viser {viser.__version__} does not serve through the gate, so nothing is served")
        self.server = server
        return server

    @contextmanager
    def _in_front_of(self, module: str) -> Iterator[None]:
        """While viser starts, its own name for `websockets` leads to this gate; no other module notices."""
        infra: Any = import_module(module)
        real = infra.websockets
        server = _Instead(real.asyncio.server, serve=self._serve)
        with _patching:
            infra.websockets = _Instead(real, asyncio=_Instead(real.asyncio, server=server))
            try:
                yield
            finally:
                infra.websockets = real

    def _serve(self, handler: Callable[[Any], Awaitable[None]], host: str, port: int, **options: Any) -> Any:
        from websockets.asyncio.server import ServerConnection, serve

        behind, limits = options.pop("process_request"), self.limits

        class Connection(ServerConnection):  # type: ignore[misc]
            """A connection from which a page can send only so much a second."""

            _began, _count = 0.0, 0

            async def recv(self, decode: bool | None = None) -> Any:
                message = await super().recv(decode)
                now = time.monotonic()
                if now - self._began >= 1:
                    self._began, self._count = now, 0
                self._count += 1
                if self._count > limits.messages_a_second:
                    await self.close(_POLICY_VIOLATION, "too many messages")
                    return await super().recv(decode)  # raises that the connection is closed
                return message

        async def guarded(connection: Any) -> None:
            if urlsplit(connection.request.path).path == INPUT_PATH:
                if self.on_input is not None:
                    await self.on_input(connection)
                return
            self._open.add(connection)
            try:
                await handler(connection)
            except Exception as error:
                # What a page sends is decoded there: nonsense ends that page's connection, nobody else's.
                self.refused += 1
                _LOG.warning("a page sent what cannot be understood (%r); its connection is closed", error)
                raise
            finally:
                self._open.discard(connection)

        def admit(connection: Any, request: Any) -> Any:
            answer = self.answer(request.path, request.headers)
            if answer is not None:
                self.refused += answer.status_code >= 400
                return answer
            return behind(connection, request)

        self._used = True
        # Who begins a request must end it soon, and who is turned away is not waited for.
        options |= {"open_timeout": 5, "close_timeout": 1}
        options |= {
            "max_size": limits.message_bytes,
            "process_request": admit,
            "create_connection": Connection,
            "logger": _CONNECTIONS,
        }
        return serve(guarded, sock=self._socket, **options)

    def answer(self, target: str, headers: Any) -> Any:
        """The HTTP answer to a request for `target`, or None where what lies behind the gate may answer."""
        parts = urlsplit(target)
        wants_socket = (headers.get("Upgrade") or "").lower() == "websocket"
        named = headers.get("Host") or ""
        if self._token is None and not is_loopback(_host_of(named)):
            return _plain(http.HTTPStatus.FORBIDDEN, f"This page is served to {self.host} alone.\n")
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != named:
            return _plain(http.HTTPStatus.FORBIDDEN, "Other web pages cannot connect.\n")
        if self._token is not None:
            given = parse_qs(parts.query).get("token", [""])[0]
            if not wants_socket and self._right(given):
                there = {"Location": parts.path or "/", "Set-Cookie": _cookie(self._token)}
                return _plain(http.HTTPStatus.SEE_OTHER, "", there)
            if not self._right(_cookies(headers).get(COOKIE, "")):
                return _plain(http.HTTPStatus.UNAUTHORIZED, "A token is needed: open the address that was printed.\n")
        if wants_socket:
            if parts.path != INPUT_PATH and len(self._open) >= self.limits.pages:
                return _plain(http.HTTPStatus.SERVICE_UNAVAILABLE, f"All {self.limits.pages} places are taken.\n")
            return None
        if parts.path in ("", "/", "/index.html"):
            if len(self._open) >= self.limits.pages:
                words = f"All {self.limits.pages} places are taken: close a page elsewhere, then load this one again.\n"
                return _plain(http.HTTPStatus.SERVICE_UNAVAILABLE, words)
            return self._page(headers)
        return None

    def _right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), str(self._token).encode())

    def _page(self, headers: Any) -> Any:
        """viser's page, with the script that reads keys and gamepads."""
        if not hasattr(self, "_packed"):
            import viser

            page = (Path(viser.__file__).parent / "client" / "build" / "index.html").read_text("utf-8")
            head = page.index("<head>") + len("<head>")
            script = f"<script>{_SCRIPT.read_text('utf-8')}</script>"
            self._packed = gzip.compress((page[:head] + script + page[head:]).encode(), 5)
        zipped = "gzip" in (headers.get("Accept-Encoding") or "")
        body = self._packed if zipped else gzip.decompress(self._packed)
        said = {"Content-Type": "text/html; charset=utf-8", "Content-Encoding": "gzip" if zipped else "identity"}
        return _response(http.HTTPStatus.OK, body, said)


class _Instead:
    """A module, or part of one, of which some names lead elsewhere."""

    def __init__(self, real: Any, **others: Any) -> None:
        self.__dict__.update(others, _real=real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_real"], name)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Now, so that a second server on this port fails here and not in a thread of viser.
        listener.listen(16)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise Unsupported(
            f"cannot listen at {host}:{port} ({reason}): give another --port, or 0 for a free one"
        ) from error
    return listener


def _host_of(named: str) -> str:
    """The host of a `Host` header, without its port and brackets."""
    try:
        return urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return ""


def _cookies(headers: Any) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in (headers.get("Cookie") or "").split(";"))
    return {name: value for name, _, value in pairs}


def _cookie(token: str) -> str:
    return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"


def _plain(status: http.HTTPStatus, words: str, more: dict[str, str] | None = None) -> Any:
    return _response(status, words.encode(), {"Content-Type": "text/plain; charset=utf-8", **(more or {})})


def _response(status: http.HTTPStatus, body: bytes, said: dict[str, str]) -> Any:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    length = {"Content-Length": str(len(body)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers({**_HEADERS, **said, **length}), body)

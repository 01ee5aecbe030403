"""Who may enter: names, origins, tokens, places, sizes and rates, over real sockets; and what nonsense cannot break."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.viewer.teleop_gate import COOKIE, Gate, GateLimits, is_loopback

pytest.importorskip("viser", reason="viser is not installed (extra view)")

TOKEN = "let-me-in-please"
VERSION = "viser-v1.1.1"


@pytest.fixture(name="gate", scope="module")
def _gate() -> Iterator[Gate]:
    gate = Gate(port=0, limits=GateLimits(pages=3, message_bytes=20_000, messages_a_second=50))
    server = gate.open_server("test")
    yield gate
    server.stop()


@pytest.fixture(name="guarded", scope="module")
def _guarded() -> Iterator[Gate]:
    gate = Gate("0.0.0.0", 0, TOKEN)
    server = gate.open_server("test")
    yield gate
    server.stop()


def _get(port: int, path: str = "/", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def _joined(port: int, path: str = "/", origin: str | None = None, **headers: str) -> Any:
    import viser
    from websockets.sync.client import connect

    return connect(
        f"ws://127.0.0.1:{port}{path}",
        subprotocols=[f"viser-v{viser.__version__}"],  # type: ignore[list-item]
        origin=origin,  # type: ignore[arg-type]
        additional_headers=headers,
        max_size=None,
        open_timeout=20,
        close_timeout=1,
    )


def _refusal(port: int, path: str = "/", origin: str | None = None, **headers: str) -> int:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused, _joined(port, path, origin, **headers):
        pass
    return int(refused.value.response.status_code)


def test_only_the_loopback_needs_no_token() -> None:
    assert is_loopback("localhost") and is_loopback("127.9.9.9") and is_loopback("::1")
    assert not is_loopback("0.0.0.0") and not is_loopback("example.org") and not is_loopback("")
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(InvalidInput, match="VAP_SIM_TELEOP_TOKEN"):
            Gate(host, 0)
    for token in ("short", "with blanks in it", 'quoted"token', "ünicode-token", "semi;colon;token"):
        with pytest.raises(InvalidInput, match="8 or more"):
            Gate(port=0, token=token)
    with pytest.raises(InvalidInput, match="65535"):
        Gate(port=70_000)
    with pytest.raises(InvalidInput, match="limits"):
        GateLimits(pages=0)


def test_a_port_in_use_is_named_and_no_other_is_taken(gate: Gate) -> None:
    with pytest.raises(Unsupported, match=rf"127\.0\.0\.1:{gate.port} .*--port"):
        Gate(port=gate.port)
    assert gate.address == f"http://127.0.0.1:{gate.port}/"


def test_the_page_is_viser_with_the_script_for_keys(gate: Gate) -> None:
    status, headers, body = _get(gate.port)
    assert status == 200 and b"vap-sim-seat" in body and b"<head><script>" in body
    assert headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"
    assert _get(gate.port, "/../../setup.cfg")[0] == 404 and _get(gate.port, "/%2e%2e/setup.cfg")[0] == 404


def test_other_names_and_other_pages_are_turned_away(gate: Gate) -> None:
    assert _get(gate.port, Host="evil.example")[0] == 403, "a name that was bent to this machine"
    assert _get(gate.port, Host=f"localhost:{gate.port}")[0] == 200
    assert _refusal(gate.port, origin="http://evil.example") == 403
    assert _refusal(gate.port, origin="http://127.0.0.1:1") == 403
    with _joined(gate.port, origin=f"http://127.0.0.1:{gate.port}") as page:
        assert page.recv()


def test_a_token_opens_the_gate_once_for_a_browser(guarded: Gate) -> None:
    port = guarded.port
    assert guarded.address.endswith(f":{port}/?token={TOKEN}")
    for path in ("/", "/?token=wrong-token", "/index.html", "/?token="):
        status, _, body = _get(port, path)
        assert status == 401 and b"token is needed" in body and b"<html" not in body
    status, headers, _ = _get(port, f"/?token={TOKEN}")
    assert status == 303 and headers["Location"] == "/" and "HttpOnly; SameSite=Strict" in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].split(";")[0]
    assert _get(port, Cookie=f"other=1; {cookie}")[0] == 200
    assert _get(port, Cookie=f"{COOKIE}=wrong-token")[0] == 401
    assert _refusal(port) == 401 and _refusal(port, f"/?token={TOKEN}") == 401 and _refusal(port, "/input") == 401
    with _joined(port, Cookie=cookie) as page:
        assert page.recv()


def test_no_more_pages_than_there_are_places(gate: Gate) -> None:
    pages = [_joined(gate.port) for _ in range(3)]
    assert all(page.recv() for page in pages) and gate.pages == 3
    assert _refusal(gate.port) == 503
    status, _, body = _get(gate.port)
    assert status == 503 and b"All 3 places are taken" in body
    for page in pages:
        page.close()
    _eventually(lambda: gate.pages == 0)
    with _joined(gate.port) as page:
        assert page.recv()


@pytest.mark.parametrize("message", [b"", b"\xff" * 60, b"\x81\xa4type\xa5Nope!", "text", b"\x90", b"x" * 30_000])
def test_nonsense_ends_its_own_connection_alone(gate: Gate, message: str | bytes) -> None:
    from websockets.exceptions import ConnectionClosed

    with _joined(gate.port) as bystander, _joined(gate.port) as page:
        assert bystander.recv() and page.recv()
        page.send(message)
        with pytest.raises(ConnectionClosed):
            while True:
                page.recv(timeout=20)
        bystander.ping().wait(20)
        assert _get(gate.port)[0] == 200


def test_a_flood_is_cut_off(gate: Gate) -> None:
    import msgspec
    from websockets.exceptions import ConnectionClosed

    harmless = msgspec.msgpack.encode({"type": "ShareUrlRequest"})
    with _joined(gate.port) as page:
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(5000):
                page.send(harmless)
            while True:
                page.recv(timeout=20)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1008


def test_half_a_request_and_raw_bytes_do_not_hold_the_gate(gate: Gate) -> None:
    for raw in (b"GET / HTTP/1.1\r\nHost:", b"\x16\x03\x01\x02\x00", b"GET " + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as rude:
            rude.sendall(raw)
            assert _get(gate.port)[0] == 200


def test_viser_serving_in_another_way_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(port=0)
    monkeypatch.setattr(gate, "_in_front_of", lambda module: _nothing())
    with pytest.raises(Unsupported, match="does not serve through the gate"):
        gate.open_server("test")


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _eventually(holds: Any, seconds: float = 20.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)

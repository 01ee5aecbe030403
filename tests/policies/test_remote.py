"""The openpi client: what it sends, how it plays chunks, and what it says of servers that fail in every way."""

from __future__ import annotations

import pickle
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.contracts.policy import observations, play
from tests.policies.conftest import MakeServer
from vap_sim.errors import InvalidInput, MissingDependency, UnknownName
from vap_sim.policies.chunks import ChunkPolicy
from vap_sim.policies.client import PolicyClient, server_address
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import PolicyFault, brief
from vap_sim.policies.registry import load_policy
from vap_sim.policies.remote import load_openpi
from vap_sim.policies.wire import pack, unpack

DROID = PolicyContext(control_hz=15.0)
SEEN = {key: value[:1] for key, value in observations(0).items()}


def chunk(number: int = 0, horizon: int = 10) -> np.ndarray:
    """Actions (horizon, 8) whose first entry counts, within the bounds, the gripper at random."""
    actions = np.random.default_rng(number).uniform(-1, 1, (horizon, 8))
    actions[:, 0] = (number * 100 + np.arange(horizon)) / 1000
    return actions


def honest(log: list[Any], horizon: int = 10, metadata: dict[str, Any] | None = None) -> Callable[[Any], None]:
    """A server that logs requests and answers with chunk 0, 1, 2..."""

    def handle(connection: Any) -> None:
        connection.send(pack(metadata or {}))
        for message in connection:
            log.append(unpack(message))
            connection.send(pack({"actions": chunk(len(log) - 1, horizon), "server_timing": {"infer_ms": 1.5}}))

    return handle


def one(policy: ChunkPolicy, steps: int = 1) -> np.ndarray:
    carry, actions = policy.reset(1, 0), []
    for _ in range(steps):
        action, carry = policy.act(SEEN, carry)
        actions.append(action[0])
    return np.stack(actions)


def test_sends_what_openpi_reads_and_plays_eight_of_each_chunk(scripted_server: MakeServer) -> None:
    log: list[Any] = []
    with scripted_server(honest(log)) as port:
        policy = brief(load_policy(f"openpi@localhost:{port}", DROID), {"instruction": "put it away"})
        carry, played = policy.reset(1, 0), []
        for _ in range(20):
            action, carry = policy.act(SEEN, carry)
            played.append(action[0])
    assert len(log) == 3
    request = log[0]
    assert set(request) == {
        "observation/exterior_image_1_left", "observation/wrist_image_left", "observation/joint_position",
        "observation/gripper_position", "prompt",
    }  # fmt: skip
    assert request["prompt"] == "put it away"
    for key in ("observation/exterior_image_1_left", "observation/wrist_image_left"):
        assert request[key].shape == (224, 224, 3) and request[key].dtype == np.uint8
    assert np.array_equal(request["observation/joint_position"], SEEN["joint_position"][0])
    assert np.array_equal(request["observation/gripper_position"], SEEN["gripper_position"][0])
    expected = np.concatenate([chunk(0)[:8], chunk(1)[:8], chunk(2)[:4]])
    expected[:, 7] = expected[:, 7] > 0.5
    assert np.stack(played) == pytest.approx(expected, abs=1e-6)


def test_a_short_chunk_is_played_whole(scripted_server: MakeServer) -> None:
    log: list[Any] = []
    with scripted_server(honest(log, horizon=3, metadata={"action_horizon": 3})) as port:
        played = one(load_openpi(f"localhost:{port}", DROID), 7)
    assert len(log) == 3
    assert played[:, 0] == pytest.approx([0, 0.001, 0.002, 0.1, 0.101, 0.102, 0.2])


def test_a_slower_environment_makes_the_same_motion(scripted_server: MakeServer) -> None:
    log: list[Any] = []
    with scripted_server(honest(log)) as port:
        played = one(load_openpi(f"localhost:{port}", PolicyContext(control_hz=5.0)), 3)
    assert len(log) == 2, "two actions of three steps each fit into eight"
    assert played[0, :7] == pytest.approx(chunk(0)[:3, :7].mean(0), abs=1e-6)
    assert played[1, :7] == pytest.approx(chunk(0)[3:6, :7].mean(0), abs=1e-6)
    assert played[:2, 7].tolist() == (chunk(0)[[2, 5], 7] > 0.5).tolist()
    with scripted_server(honest([])) as port:
        places = one(load_openpi(f"localhost:{port}", PolicyContext(control="joint_position", control_hz=5.0)), 2)
    low = PolicyContext(control="joint_position").low
    assert places[:, 0] == pytest.approx(chunk(0)[[2, 5], 0], abs=1e-6), "of places the last counts"
    assert (places >= low).all()


def test_actions_are_clipped_to_the_bounds(scripted_server: MakeServer) -> None:
    def handle(connection: Any) -> None:
        connection.send(pack({}))
        for _ in connection:
            connection.send(pack({"actions": np.full((8, 8), -7.5)}))

    with scripted_server(handle) as port:
        assert one(load_openpi(f"localhost:{port}", DROID))[0].tolist() == [-1] * 7 + [0]


def test_rows_ask_when_their_own_chunk_is_used_up(scripted_server: MakeServer) -> None:
    log: list[Any] = []
    with scripted_server(honest(log)) as port:
        policy = load_openpi(f"localhost:{port}", DROID, prompt="default")
        _, early = play(policy, policy.reset(2, 0), [0, 1], 0, 5)
        _, late = play(policy, policy.reset(1, 0), [2], 0, 2)
        mixed = {name: np.concatenate([early[name], late[name]]) for name in early}
        asked = len(log)
        play(policy, mixed, [0, 1, 2], 5, 4)
    assert (asked, len(log)) == (3, 5), "rows 0 and 1 ask again, row 2 has two actions left"
    assert {request["prompt"] for request in log} == {"default"}


def test_black_wrist_only_when_asked_for(scripted_server: MakeServer) -> None:
    log: list[Any] = []
    seen = {key: value for key, value in SEEN.items() if key != "image_wrist"}
    with scripted_server(honest(log)) as port:
        policy = load_openpi(f"localhost:{port}", DROID)
        with pytest.raises(InvalidInput, match=r"observation for an openpi policy.*image_wrist.*wrist='black'"):
            policy.act(seen, policy.reset(1, 0))
        with pytest.raises(InvalidInput, match=r"observation for an openpi policy.*one with 'image'"):
            policy.act({"joint_position": SEEN["joint_position"]}, policy.reset(1, 0))
        policy = load_openpi(f"localhost:{port}", DROID, wrist="black")
        policy.act(seen, policy.reset(1, 0))
    assert log[0]["observation/wrist_image_left"].max() == 0


# Servers that fail ---------------------------------------------------------------------------------------------------


def answering(*answers: Any, metadata: Any = None) -> Callable[[Any], None]:
    def handle(connection: Any) -> None:
        connection.send(pack({}) if metadata is None else metadata)
        for answer, _ in zip(answers, connection, strict=False):
            connection.send(answer)

    return handle


def _not_a_number() -> np.ndarray:
    actions = chunk()
    actions[3, 2] = np.nan
    return actions


BAD_ANSWERS: list[tuple[str, Callable[[Any], None], str]] = [
    ("error text", answering("Traceback\n  File x\nValueError: no\x1b[2J such\n"), "reports an error: ValueError: no"),
    ("empty error", answering(""), "the server reports an error: $"),
    ("pickle", answering(pickle.dumps({"actions": 1})), "sent a bad message: is no whole msgpack"),
    ("truncated", answering(pack({"actions": chunk()})[:-5]), "sent a bad message"),
    ("no map", answering(pack([1, 2])), "sent list as an answer, expected a map"),
    ("no actions", answering(pack({})), "gave NoneType as actions, expected an array of floats"),
    ("a list", answering(pack({"actions": [[0.0] * 8]})), "gave list as actions"),
    ("integers", answering(pack({"actions": np.zeros((8, 8), np.int32)})), "gave an array of int32 as actions"),
    ("nan", answering(pack({"actions": _not_a_number()})), "gave nan as entry 2 of action 3"),
    ("one action", answering(pack({"actions": np.zeros(8)})), r"gave actions \(8,\), expected \(C, 8\)"),
    ("wide", answering(pack({"actions": np.zeros((10, 32))})), r"gave actions \(10, 32\), expected \(C, 8\)"),
    ("batched", answering(pack({"actions": np.zeros((1, 10, 8))})), r"gave actions \(1, 10, 8\)"),
    ("empty", answering(pack({"actions": np.zeros((0, 8))})), r"gave actions \(0, 8\)"),
    (
        "another horizon",
        answering(pack({"actions": chunk()}), metadata=pack({"action_horizon": 15})),
        "gave a chunk of 10 actions, but announced 15",
    ),
    ("text first", answering(metadata="busy"), "the server reports an error: busy"),
    ("bad metadata", answering(metadata=b"\xc1"), "sent a bad message"),
    ("odd metadata", answering(metadata=pack(3)), "sent int as its metadata"),
    ("odd rate", answering(metadata=pack({"control_hz": "fast"})), "announces control_hz 'fast'"),
]


@pytest.mark.parametrize(("name", "handler", "words"), BAD_ANSWERS, ids=[name for name, *_ in BAD_ANSWERS])
def test_bad_answers_are_named(scripted_server: MakeServer, name: str, handler: Any, words: str) -> None:
    with scripted_server(handler) as port:
        with pytest.raises(PolicyFault, match=f"policy 'openpi@localhost:{port}': .*{words}") as fault:
            one(load_openpi(f"localhost:{port}", DROID, timeout=5))
    assert "\x1b" not in str(fault.value)


def test_a_chunk_shorter_than_a_control_interval_is_named(scripted_server: MakeServer) -> None:
    with scripted_server(honest([], horizon=2)) as port:
        with pytest.raises(PolicyFault, match="a chunk of 2 actions, shorter than one control interval of 3"):
            one(load_openpi(f"localhost:{port}", PolicyContext(control_hz=5.0)))


@pytest.mark.parametrize("when", ["metadata", "answer"])
def test_a_server_that_is_too_late_is_named_and_not_waited_for(scripted_server: MakeServer, when: str) -> None:
    def handle(connection: Any) -> None:
        if when == "answer":
            connection.send(pack({}))
            connection.recv()
        connection.recv()  # until the client has had enough

    what = "its metadata" if when == "metadata" else "an answer"
    with scripted_server(handle) as port:
        with pytest.raises(PolicyFault, match=rf"the server did not send {what} within 0\.2 s"):
            one(load_openpi(f"localhost:{port}", DROID, timeout=0.2))


def test_a_late_answer_is_not_taken_for_the_next_one(scripted_server: MakeServer) -> None:
    log: list[int] = []

    def handle(connection: Any) -> None:
        connection.send(pack({}))
        for message in connection:
            log.append(int(unpack(message)["number"]))
            if len(log) == 1:
                time.sleep(0.5)
            connection.send(pack({"number": log[-1]}))

    with scripted_server(handle) as port:
        client = PolicyClient(server_address(f"localhost:{port}"), timeout=0.2)
        with pytest.raises(PolicyFault, match="within"):
            client.ask({"number": 1})
        assert client.ask({"number": 2}) == {"number": 2}


def test_a_server_that_dies_is_tried_again_and_then_named(scripted_server: MakeServer) -> None:
    log: list[Any] = []

    def dies_once(connection: Any) -> None:
        connection.send(pack({}))
        for message in connection:
            log.append(unpack(message))
            if len(log) == 2:
                connection.socket.shutdown(socket.SHUT_RDWR)
                return
            connection.send(pack({"actions": chunk(len(log) - 1)}))

    with scripted_server(dies_once) as port:
        policy = load_openpi(f"localhost:{port}", DROID)
        played = one(policy, 16)
        assert len(log) == 3 and played[8, 0] == pytest.approx(0.2), "asked again on a new connection"
    with pytest.raises(PolicyFault, match="the server does not answer or died, in 3 tries") as fault:
        one(load_openpi(f"localhost:{port}", DROID, retries=2, timeout=1))
    assert re.search(r"ConnectionRefused|refused", str(fault.value))
    # The memory of an episode that a death interrupts is whole: it goes on where it stopped.
    with scripted_server(honest([])) as port:
        policy = load_openpi(f"localhost:{port}", DROID, retries=0)
        _, carry = policy.act(SEEN, policy.reset(1, 0))
        _, carry = play(policy, carry, [0], 1, 7)
    with pytest.raises(PolicyFault, match="in 1 tries"):
        policy.act(SEEN, carry)
    with scripted_server(honest([]), port) as again:
        assert again == port and policy.act(SEEN, carry)[0][0, 0] == pytest.approx(0.0)


def test_a_client_is_pickled_without_its_connection(scripted_server: MakeServer) -> None:
    with scripted_server(honest([])) as port:
        policy = load_openpi(f"localhost:{port}", DROID)
        first = one(policy)
        assert first.shape == one(pickle.loads(pickle.dumps(policy))).shape
        policy.source.client.close()  # type: ignore[attr-defined]
        policy.source.client.close()  # type: ignore[attr-defined]


# Settings ------------------------------------------------------------------------------------------------------------


def test_addresses() -> None:
    assert server_address("localhost") == "ws://localhost:8000"
    assert server_address("wss://gpu-1.example.org:443") == "wss://gpu-1.example.org:443"
    assert server_address("[::1]:9000") == "ws://[::1]:9000"
    for bad in ("", "host:0", "host:99999", "http://host:80", "a b:1", "host:port", "host:80/path"):
        with pytest.raises(InvalidInput, match="address of a policy server"):
            server_address(bad)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"execute": 0}, InvalidInput, "actions to execute of a chunk: given 0"),
        ({"execute": True}, InvalidInput, "actions to execute of a chunk: given True"),
        ({"timeout": 0}, InvalidInput, "timeout of a policy server: given 0"),
        ({"timeout": float("nan")}, InvalidInput, "timeout of a policy server: given nan"),
        ({"retries": -1}, InvalidInput, "retries for a policy server: given -1"),
        ({"policy_hz": 0}, InvalidInput, "option 'policy_hz': given 0"),
        ({"wrist": "blak"}, UnknownName, r"option 'wrist' 'blak'\. Did you mean 'black'"),
        ({"timout": 3}, UnknownName, r"unknown option of policy 'openpi' 'timout'\. Did you mean 'timeout'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_policy("openpi@localhost:1", DROID, **options)


def test_rates_that_do_not_fit_are_named(scripted_server: MakeServer) -> None:
    with scripted_server(honest([])) as port:
        policy = load_openpi(f"localhost:{port}", PolicyContext(control_hz=10.0))
        with pytest.raises(InvalidInput, match=r"control_hz for an openpi policy: given 10\.0, expected 15 Hz"):
            policy.reset(1, 0)
        load_openpi(f"localhost:{port}", PolicyContext(control_hz=10.0), policy_hz=20.0).reset(1, 0)
        with pytest.raises(InvalidInput, match="instructions: given 1 rows, expected 2"):
            brief(load_openpi(f"localhost:{port}", DROID), {"instruction": "x"}).reset(2, 0)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "websockets.sync.client", None)
    with pytest.raises(MissingDependency, match=r"websockets is not installed.*vap-sim\[remote\]"):
        load_openpi("localhost:1", DROID).reset(1, 0)
    monkeypatch.setitem(__import__("sys").modules, "msgpack", None)
    with pytest.raises(MissingDependency, match=r"msgpack is not installed.*vap-sim\[remote\]"):
        pack({})

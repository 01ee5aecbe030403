"""The policy server: our client and openpi's own get what the policy says, strangers and liars get a word."""

from __future__ import annotations

import http.client
import importlib.util
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from tests.contracts.policy import ROWS, SEED, briefing, observations, play
from vap_sim.errors import InvalidInput, MissingDependency, Unsupported
from vap_sim.policies.chunks import ChunkPolicy
from vap_sim.policies.client import PolicyClient, server_address
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import Carry, Observations, Policy, PolicyFault, brief
from vap_sim.policies.registry import load_policy
from vap_sim.policies.remote import EXTERIOR, GRIPPER, JOINTS, MEMORY, PROMPT, RESET, load_openpi
from vap_sim.policies.served import ServedPolicy, Session
from vap_sim.policies.server import PolicyServer
from vap_sim.policies.wire import pack, unpack

pytest.importorskip("websockets", reason="websockets is not installed (extra remote)")
pytest.importorskip("msgpack", reason="msgpack is not installed (extra remote)")

WHERE = PolicyContext(control_hz=15.0)
REQUEST = {
    EXTERIOR: np.zeros((224, 224, 3), np.uint8),
    JOINTS: np.zeros(7, np.float32),
    GRIPPER: np.zeros(1),
    PROMPT: "go",
}


class Teller:
    """Says what it sees: the mean grey, a joint, the gripper, the length of its instruction, and the step."""

    def decide(self, obs: Observations, instructions: tuple[str, ...], memory: Carry) -> tuple[np.ndarray, Carry]:
        actions = np.zeros((len(instructions), 4, 8), np.float32)
        actions[:, :, 0] = (obs["image"].mean(axis=(1, 2, 3)) / 255)[:, None]
        actions[:, :, 1] = obs["joint_position"][:, :1]
        actions[:, :, 2] = obs["gripper_position"]
        actions[:, :, 3] = np.array([len(text) for text in instructions])[:, None] / 100
        actions[:, :, 4] = memory["asked"][:, None] / 100
        actions[:, :, 5] = np.arange(4) / 100
        return actions, {"asked": memory["asked"] + 1}

    name = "teller"

    def begin(self, keys: np.ndarray, instructions: tuple[str, ...]) -> Carry:
        return {"asked": keys.astype(np.float64)}


def teller() -> ChunkPolicy:
    return ChunkPolicy(Teller(), 8, 3)


@contextmanager
def serving(policy: Policy, horizon: int = 8, context: PolicyContext = WHERE, **options: Any) -> Iterator[PolicyServer]:
    with PolicyServer(ServedPolicy(policy, context, horizon), port=0, **options) as server:
        yield server


def remote(server: PolicyServer, context: PolicyContext = WHERE, **options: Any) -> ChunkPolicy:
    return load_openpi(f"127.0.0.1:{server.port}", context, **options)


@pytest.mark.parametrize("horizon", [1, 3, 8])
def test_a_served_policy_acts_as_it_would_here(horizon: int) -> None:
    """Policies that do not look act the same to the bit, from any seed, in every row."""
    local = load_policy("random", WHERE)
    with serving(local, horizon) as server:
        far = remote(server)
        actions, _ = play(far, far.reset(ROWS, SEED), [0, 1, 2], 0, 20)
    expected, _ = play(local, local.reset(ROWS, SEED), [0, 1, 2], 0, 20)
    expected[..., 7] = expected[..., 7] > 0.5
    assert np.array_equal(actions, expected)


def test_a_policy_that_looks_and_remembers_acts_the_same_with_a_horizon_of_one() -> None:
    context = PolicyContext(
        control_hz=15.0, observation_space=spaces.Dict({"image": spaces.Box(0, 255, (128, 128, 3), np.uint8)})
    )
    with serving(teller(), 1, context) as server:
        far = brief(remote(server), briefing([0, 1, 2]))
        actions, _ = play(far, far.reset(ROWS, SEED), [0, 1, 2], 0, 10)
    local = brief(teller(), briefing([0, 1, 2]))
    expected, _ = play(local, local.reset(ROWS, SEED), [0, 1, 2], 0, 10)
    assert np.abs(actions - expected)[..., 0].max() < 0.01, "pictures were resized twice on the way"
    assert actions[..., 1:7] == pytest.approx(np.clip(expected[..., 1:7], -1, 1), abs=1e-6)
    assert (actions[..., 3] > 0).all() and (np.diff(actions[:, :, 4]) > 0).any(), "instructions and memory arrive"


def test_the_client_keeps_the_memory_when_the_server_dies() -> None:
    policy = load_policy("random", WHERE)
    with serving(policy) as server:
        port = server.port
        far = remote(server, retries=8)
        _, carry = play(far, far.reset(1, SEED), [0], 0, 12)
    with PolicyServer(ServedPolicy(policy, WHERE, 8), port=port):
        rest, _ = play(far, carry, [0], 12, 8)
    whole, _ = play(policy, policy.reset(1, SEED), [0], 0, 20)
    whole[..., 7] = whole[..., 7] > 0.5
    assert np.array_equal(rest, whole[:, 12:])


def raw(server: PolicyServer, **options: Any) -> Any:
    from websockets.sync.client import connect

    return connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None, **options)


def test_other_clients_get_an_episode_a_prompt() -> None:
    """A client that knows nothing of memory: it goes on within a connection, and begins anew with another prompt."""
    with serving(load_policy("random", WHERE), 4) as server, raw(server) as one, raw(server) as other:
        metadata = unpack(one.recv())
        assert metadata == {"action_horizon": 4, "control_hz": 15.0, "vap_sim": {"memory": True}}
        other.recv()

        def ask(connection: Any, **changes: Any) -> np.ndarray:
            connection.send(pack({**REQUEST, **changes}))
            return np.asarray(unpack(connection.recv())["actions"])

        first, second = ask(one), ask(one)
        assert first.shape == (4, 8) and not np.array_equal(first, second)
        assert np.array_equal(ask(other), first), "sessions know nothing of each other"
        assert np.array_equal(ask(one, prompt="another"), first)
        assert np.array_equal(ask(one, prompt="another"), second)
        lists = ask(other, **{JOINTS: [0.0] * 7, GRIPPER: 0.5 * np.ones(())})
        assert np.array_equal(lists, second), "lists and scalars' arrays will do"


def test_the_official_client_gets_the_same() -> None:
    if importlib.util.find_spec("openpi_client") is None:
        pytest.skip("openpi-client is not installed (pip install --no-deps openpi-client)")
    official = importlib.import_module("openpi_client.websocket_client_policy")
    policy = load_policy("random", WHERE)
    with serving(policy, 8) as server:
        client = official.WebsocketClientPolicy("127.0.0.1", server.port)
        assert client.get_server_metadata()["action_horizon"] == 8
        actions = np.concatenate([client.infer(REQUEST)["actions"] for _ in range(2)])
        expected, _ = play(policy, policy.reset(1, 0), [0], 0, 16)
        assert np.array_equal(actions, expected[0])
        with pytest.raises(RuntimeError, match="policy server: bad request"):
            client.infer({"prompt": 3})


# Strangers and liars -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        pickle.dumps(REQUEST),
        pack(REQUEST)[:-3],
        pack([1]),
        pack({}),
        pack({**REQUEST, JOINTS: np.zeros(6)}),
        pack({**REQUEST, JOINTS: np.full(7, np.nan)}),
        pack({**REQUEST, JOINTS: "x"}),
        pack({**REQUEST, GRIPPER: np.zeros((1, 1))}),
        pack({**REQUEST, EXTERIOR: np.zeros((224, 224, 3), np.float32)}),
        pack({**REQUEST, EXTERIOR: np.zeros((224, 224), np.uint8)}),
        pack({**REQUEST, EXTERIOR: np.zeros((3, 4, 1), np.uint8)}),
        pack({**REQUEST, EXTERIOR: np.zeros((2049, 1, 3), np.uint8)}),
        pack({**REQUEST, EXTERIOR: np.zeros((0, 4, 3), np.uint8)}),
        pack({**REQUEST, PROMPT: 5}),
        pack({**REQUEST, PROMPT: "x" * 5000}),
        pack({RESET: "now"}),
        pack({RESET: True}),
        pack({**REQUEST, MEMORY: 3}),
        pack({**REQUEST, MEMORY: {}}),
        pack({**REQUEST, MEMORY: {"key": np.zeros(1), "step": np.zeros(1, np.int64)}}),
        pack({**REQUEST, MEMORY: {"key": np.zeros(2, np.int64), "step": np.zeros(1, np.int64)}}),
        b"\x85\xad__ndarray__\xc3",
        "text",
    ],
)
def test_bad_requests_get_a_word_and_the_log_the_rest(message: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serving(load_policy("random", WHERE)) as server:
        with caplog.at_level(logging.WARNING, "vap_sim.policies.server"), raw(server) as connection:
            connection.recv()
            connection.send(message)
            assert connection.recv() == "policy server: bad request"
        assert "Traceback" in caplog.text
        far = remote(server)
        far.act(observations(0), far.reset(ROWS, 0))


def test_a_policy_that_fails_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    class Fails:
        def reset(self, num_envs: int, seed: int) -> Carry:
            return {}

        def act(self, obs: Observations, carry: Carry) -> Any:
            raise ZeroDivisionError("the secret of the house")

    class NotANumber(Fails):
        def act(self, obs: Observations, carry: Carry) -> Any:
            return np.full((1, 8), np.nan, np.float32), carry

    for policy, words in ((Fails(), "the secret"), (NotANumber(), "expected a finite number")):
        with (
            serving(policy) as server,
            pytest.raises(PolicyFault, match="reports an error: policy server: internal er"),
        ):
            far = remote(server)
            far.act(observations(0), far.reset(1, 0))
        assert words in caplog.text
        caplog.clear()


def test_too_many_and_idle_clients_are_let_go() -> None:
    from websockets.exceptions import ConnectionClosed

    with serving(load_policy("random", WHERE), sessions=1, idle=0.3) as server, raw(server) as first:
        first.recv()
        with raw(server) as second, pytest.raises(ConnectionClosed) as closed:
            second.recv(timeout=5)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
        with pytest.raises(ConnectionClosed) as closed:
            first.recv(timeout=5)
        assert closed.value.rcvd is not None and (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "idle")
        with raw(server) as third:
            assert "action_horizon" in unpack(third.recv(timeout=5))


def test_oversized_messages_are_not_read() -> None:
    from websockets.exceptions import ConnectionClosed

    with serving(load_policy("random", WHERE)) as server, raw(server) as connection:
        connection.recv()
        with pytest.raises(ConnectionClosed) as closed:
            connection.send(bytes(2**24 + 1))
            connection.recv(timeout=5)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def test_health_tokens_and_browsers() -> None:
    from websockets.exceptions import InvalidStatus

    def health(server: PolicyServer) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read()

    with serving(load_policy("random", WHERE), token="a token of ours") as server:
        assert health(server) == (200, b"OK\n")
        for headers in ({}, {"Authorization": "Api-Key another one"}, {"Authorization": "a token of ours"}):
            with pytest.raises(InvalidStatus) as refused:
                raw(server, additional_headers=headers)
            assert refused.value.response.status_code == 401
        with pytest.raises(PolicyFault, match=r"refuses the token \(HTTP 401\)"):
            remote(server).reset(1, 0)
        assert remote(server, token="a token of ours").reset(1, 0)
        with pytest.raises(InvalidStatus) as refused:
            raw(server, origin="http://evil.example", additional_headers={"Authorization": "Api-Key a token of ours"})
        assert refused.value.response.status_code == 403


def test_only_the_loopback_is_open_without_a_token() -> None:
    served = ServedPolicy(load_policy("random", WHERE), WHERE)
    for host in ("0.0.0.0", "", "192.168.1.2", "example.org", "::"):
        with pytest.raises(InvalidInput, match=r"host of a policy server: .* a loopback address, or a token"):
            PolicyServer(served, host=host, port=0)
    with PolicyServer(served, host="0.0.0.0", port=0, token="long enough"):
        pass
    for token in ("five5", "nine signs ä", "with\nbreak"):
        with pytest.raises(InvalidInput, match="token of a policy server") as error:
            PolicyServer(served, port=0, token=token)
        assert token not in str(error.value)
    for options in ({"port": -1}, {"port": 70000}, {"sessions": 0}, {"idle": 0.0}):
        with pytest.raises(InvalidInput, match="policy server: given port"):
            PolicyServer(served, **{"port": 0, **options})  # type: ignore[arg-type]


def test_policies_that_must_know_the_scene_are_not_served() -> None:
    with pytest.raises(Unsupported, match="this policy cannot be served: a request tells no more"):
        ServedPolicy(load_policy("scripted", PolicyContext(task="push")), WHERE)
    with pytest.raises(InvalidInput, match="horizon of a policy server: given 0"):
        ServedPolicy(load_policy("random", WHERE), WHERE, 0)


def test_texts_travel_in_memories_and_are_checked() -> None:
    served = ServedPolicy(teller(), WHERE, 1)
    reply, _ = served.answer({RESET: 3, PROMPT: "über"}, Session())
    memory = unpack(pack(reply))[MEMORY]
    assert memory["instruction"].dtype == np.uint32 and memory["instruction"].tolist() == [[ord(c) for c in "über"]]
    answer, _ = served.answer({**REQUEST, PROMPT: "über", MEMORY: memory}, Session())
    assert answer["actions"][0, 3] == pytest.approx(0.04)
    memory["instruction"][0, 0] = 2**31
    with pytest.raises(InvalidInput, match="code points"):
        served.answer({**REQUEST, PROMPT: "über", MEMORY: memory}, Session())
    memory = served.answer({RESET: 3, PROMPT: "a"}, Session())[0][MEMORY]
    memory["chunk"][0, 0, 0] = np.nan
    with pytest.raises(InvalidInput, match="memory, chunk: given a number that is not finite"):
        served.answer({**REQUEST, PROMPT: "a", MEMORY: memory}, Session())


def test_missing_websockets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "websockets.sync.server", None)
    with pytest.raises(MissingDependency, match=r"websockets is not installed.*vap-sim\[remote\]"):
        PolicyServer(ServedPolicy(load_policy("random", WHERE), WHERE), port=0)


def test_liars_cannot_pose_as_servers_with_memory(scripted_server: Any) -> None:
    def handle(connection: Any) -> None:
        connection.send(pack({"vap_sim": {"memory": True}}))
        for _ in connection:
            connection.send(pack({"actions": np.zeros((8, 8)), MEMORY: {"a": np.zeros(3)}}))

    with scripted_server(handle) as port:
        with pytest.raises(PolicyFault, match="gave no memory under 'vap_sim/memory', although it announced one"):
            load_openpi(f"localhost:{port}", WHERE).reset(1, 0)
        client = PolicyClient(server_address(f"localhost:{port}"))
        assert set(client.ask({})) == {"actions", MEMORY}

"""`vap-sim serve-policy`: offer a policy to other programs by openpi's websocket protocol."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vap_sim.errors import InvalidInput

TOKEN_VARIABLE = "VAP_SIM_POLICY_TOKEN"


@dataclass(frozen=True)
class ServePolicy:
    """Serve a policy until interrupted. Example: vap-sim serve-policy --policy bc@runs/reach.safetensors --port 8000

    Clients other than those on this machine need a token: set the variable VAP_SIM_POLICY_TOKEN, then --host. Nothing
    is encrypted: put a tunnel or a proxy with TLS in front where the network is not yours.

    Attributes:
        policy: Name as `vap-sim evaluate` takes it, of one that needs no more than pictures, joints and a prompt, which
            leaves scripted experts out.
        host: Address to listen at.
        port: Port to listen at, 0 for a free one.
        horizon: Actions that are sent an answer; 1 suits a policy that looks at every step.
        robot: Name of the robot that acts.
        control: What the numbers of an action mean, see environments.
        control_hz: Actions a second.
        sessions: Clients at once.
        idle: Seconds after which a silent client is forgotten.
        size: Side of the pictures that the policy sees [px].
        seed: Of the policy's draws.
        trust: Load files that can run code, such as those of Stable-Baselines3.
    """

    policy: str
    host: str = "127.0.0.1"
    port: int = 8000
    horizon: int = 8
    robot: str = "panda_robotiq"
    control: str = "joint_velocity"
    control_hz: float = 15.0
    sessions: int = 8
    idle: float = 300.0
    size: int = 128
    seed: int = 0
    trust: bool = False


def run(command: ServePolicy) -> str:
    """Serve until interrupted; returns only when the server ends by itself."""
    import logging

    import numpy as np
    from gymnasium import spaces

    from vap_sim.policies.context import PolicyContext
    from vap_sim.policies.registry import load_policy
    from vap_sim.policies.served import ServedPolicy
    from vap_sim.policies.server import PolicyServer

    if not 8 <= command.size <= 2048:
        raise InvalidInput("--size", command.size, "8 to 2048 pixels, the side of the pictures that the policy sees")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    picture = spaces.Box(0, 255, (command.size, command.size, 3), np.uint8)
    context = PolicyContext(
        command.robot,
        command.control,
        command.control_hz,
        observation_space=spaces.Dict({"image": picture, "image_wrist": picture}),
    )
    options = {"trust": True} if command.trust else {}
    policy = load_policy(command.policy, context, **options)
    served = ServedPolicy(policy, context, command.horizon, command.seed)
    with PolicyServer(
        served,
        host=command.host,
        port=command.port,
        token=os.environ.get(TOKEN_VARIABLE),
        sessions=command.sessions,
        idle=command.idle,
    ) as server:
        print(f"serving {command.policy} at ws://{command.host}:{server.port}; interrupt to stop", flush=True)
        server.wait()
    return "the server has ended"

"""`nano-agent demo`: a spoken session through the whole graph over DDS, with what was heard and done, and when."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nano_agent_ros.bringup import add_node_arguments, nodes_of
from nano_agent_ros.console import signals_as_interrupt
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.graph import BringUpError, Graph
from nano_agent_ros.resources import find
from nano_agent_ros.units import NodeSpec, full_namespace, separate

if TYPE_CHECKING:
    from nano_agent_ros.demo_session import Session

WAIT_AFTER_WAV_S = 90.0
QUIET_S = 0.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `nano-agent demo`."""
    parser.add_argument("--wav", type=Path, help="what is said (default: the session that ships)")
    parser.add_argument("--fast", action="store_true", help="do not wait for the pace of speech")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, the running log to stderr")
    parser.add_argument("--time-scale", type=float, default=4.0, help="simulated seconds of the robot per second")
    parser.add_argument("--domain-id", type=int, help="ROS_DOMAIN_ID (default: one of its own, by chance)")
    parser.add_argument("--verbose", action="store_true", help="show the nodes' logs as well")
    add_node_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns 0 if something was heard and led to an action, 1 otherwise."""
    wav = (args.wav or find("config/audio/demo.wav")).resolve()
    if not wav.is_file():
        raise ConfigError(f"{wav}: no such sound file")
    if not 0.01 <= args.time_scale <= 1000:
        raise ConfigError(f"--time-scale {args.time_scale} is not within 0.01 to 1000")
    # Nobody else's robot may hear this.
    domain = args.domain_id if args.domain_id is not None else random.SystemRandom().randint(1, 100)
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    out = sys.stderr if args.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=out, flush=True)

    say(f"{wav.name} through microphone, agent and robot; ROS_DOMAIN_ID={domain}, this machine only")
    code = 1
    with signals_as_interrupt():
        try:
            session = _play(args, wav, say)
            if args.json:
                print(json.dumps(session.summary(wav), indent=2), flush=True)
            else:
                say(session.table())
            code = 0 if session.heard and session.acted else 1
            if not session.heard:
                say("nothing was heard")
            elif not session.acted:
                say("no action was published")
        except BringUpError as error:
            say(f"demo: {error}")
        except KeyboardInterrupt:
            say("interrupted")
            code = 130
    return code


def _play(args: argparse.Namespace, wav: Path, say: Callable[[str], None]) -> Session:
    from nano_agent_ros.demo_session import Session

    args.audio_source, args.device, args.no_sim_robot = "wav", None, False
    args.wav = wav
    extra: dict[str, dict[str, Any]] = {
        # The agent and the demo itself have to be there before the first word.
        "executor": {"keep_stop": False},
        "agent": {"keep_state": False},  # every demo is a new conversation
        "listener": {"audio.realtime": not args.fast, "audio.min_subscribers": 2},
        "sim_robot": {"time_scale": float(args.time_scale), "status_rate_hz": 10.0},
    }
    nodes = [NodeSpec(n.name, {**n.parameters, **extra.get(n.name, {})}) for n in nodes_of(args)]

    def on_line(name: str, line: str) -> None:
        if args.verbose or line.startswith(("ERROR", "FATAL", "Traceback", "cannot start")):
            say(f"{name:>10} | {line}")

    began = time.monotonic()
    units = separate(nodes, full_namespace(args.namespace))
    files = [args.params_file] if args.params_file else []
    with Graph(units, files, args.log_level, on_line) as graph:
        session = Session(graph.node, say)
        graph.configure()
        graph.activate("sim_robot", "executor", "agent")
        session.wait_for_publishers(graph)
        ready_s = time.monotonic() - began
        say(f"nodes ready after {ready_s:.1f} s; the robot's time runs {args.time_scale:g} times as fast")
        graph.activate("listener")
        session.begin()
        until = time.monotonic() + _seconds(wav) + WAIT_AFTER_WAV_S
        while not session.over(QUIET_S):
            graph.spin(0.1)
            if crashed := graph.crashed():
                raise BringUpError("; ".join(crashed))
            if time.monotonic() > until:
                say("not everything has come to an end in time")
                break
    return session


def _seconds(wav: Path) -> float:
    from nano_agent_ros.speech import WavSource

    source = WavSource(wav)
    try:
        return source.duration_s
    finally:
        source.close()

"""The parameters of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nano_agent_ros.agent import MAX_OVERHEARD, MIN_CONFIDENCE
from nano_agent_ros.nodes import address_link
from nano_agent_ros.nodes.facts import FACTS
from nano_agent_ros.nodes.parameters import Live, Parameter

PARAMETERS = (
    Parameter("model", "", "Model folder; empty: the one that ships"),
    Parameter("engine", "native", "What runs the model: native, or another engine of the package"),
    Parameter("threads", 0, "CPU threads of the engine; 0: it decides", 0, 256),
    Parameter("pin", "", "Processors of the native engine's threads: auto, or a list such as 0,2,4; empty: not bound"),
    Parameter("huge_pages", False, "Native engine: copy the weights into huge pages instead of mapping the file"),
    Parameter("thinking", 0, "Tokens that a model which can think may think before it replies; 0: none", 0, 100_000),
    Parameter("guess", -1, "Tokens of a step when what comes is guessed; 0: no guesses, -1: as many as pay", -1, 64),
    Parameter("skills", "", "Skills file: what the robot can do; empty: the one that ships"),
    Parameter("site", "warehouse", "Site file, or the name of one that ships"),
    *address_link.NAMES,
    Live("max_transcript_age_s", 10.0, "Words that ended longer ago are refused, in seconds", 0.1, 3600.0),
    Live("min_plan_confidence", MIN_CONFIDENCE, "A plan that the model is less sure of is asked about", 0.0, 1.0),
    Live("max_plan_overheard", MAX_OVERHEARD, "A plan more likely not meant for the robot is asked about", 0.0, 1.0),
    Live("min_confidence", 0.35, "Below this confidence the person is asked to say it again", 0.0, 1.0),
    Live("confirm_timeout_s", 20.0, "How long a plan waits for a yes, in seconds", 1.0, 600.0),
    Live("release_by_voice", True, "Whether 'resume' ends a stop, besides the service acknowledge_stop"),
    Live("max_waiting", 4, "Utterances that may wait for the model; more are refused", 1, 100),
    Live(
        "on_new_utterance",
        "queue",
        "While the model thinks: wait for it, or take back what it thinks about",
        choices=("queue", "interrupt"),
    ),
    Parameter("keep_cut_turns", False, "A turn that is called off stays in the conversation, as far as it came"),
    Live("ask_timeout_s", 30.0, "How long the service `ask` waits for its answer, in seconds", 1.0, 600.0),
    Parameter("keep_state", True, "Keep the conversation on disk and go on with it after a restart"),
    Parameter("state_dir", "", "Folder for that; empty: one of the namespace in the user's state folder"),
    Parameter("resume_within_s", 3600.0, "A conversation that rested for longer is not gone on with", 0.0, 1e7),
    Parameter("facts", list(FACTS), "Facts of the robot that the model is told; [''] for none"),
    Live("near_m", 1.0, "The robot is at a location within this distance of its pose, in metres", 0.05, 100.0),
    Live("warn_temperature_c", 85.0, "The computer's diagnostics warn from this temperature on, in °C", 20.0, 150.0),
    Live("warn_memory_percent", 90.0, "They warn from this share of its memory in use on, in percent", 1.0, 100.0),
)


def interrupts(values: Mapping[str, Any]) -> bool:
    """Whether every utterance takes back those before it."""
    return bool(values["on_new_utterance"] == "interrupt")

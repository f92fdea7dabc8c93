"""A turn for people and for programs."""

from __future__ import annotations

from typing import Any

from nano_agent_ros.agent import Turn
from nano_agent_ros.skills import Action, Site


def action_text(action: Action) -> str:
    """`navigate_to(location=dock_3)`."""
    return f"{action.skill}({', '.join(f'{k}={v}' for k, v in action.arguments.items())})"


def plan_text(turn: Turn) -> str:
    """The plan, a line each step, or the reply."""
    ms = f"[{turn.timings['total'] * 1000:.0f} ms]"
    if turn.kind == "act":
        steps = [f"  {i}. {action_text(a)}  ({a.confidence:.0%})" for i, a in enumerate(turn.actions, 1)]
        return "\n".join([f"act {ms}", *steps])
    return f"{turn.kind} {ms}" + (f": {turn.reply}" if turn.reply else "")


def turn_json(turn: Turn, site: Site) -> dict[str, Any]:
    """The turn as JSON types; numbers are SI, poses in the site's frame."""
    return {
        "turn": turn.turn,
        "text": turn.text,
        "kind": turn.kind,
        "actions": [
            {
                "skill": a.skill,
                "arguments": dict(a.arguments),
                "target_id": a.target_id,
                "pose": list(a.pose) if a.pose else None,
                "frame_id": site.frame_id if a.pose else None,
                "risk": a.risk,
                "requires_confirmation": a.requires_confirmation,
                "confidence": round(a.confidence, 4),
            }
            for a in turn.actions
        ],
        "reply": turn.reply,
        "timings_s": {k: round(v, 6) for k, v in turn.timings.items()},
        "tokens": dict(turn.tokens),
    }

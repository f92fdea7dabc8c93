"""The gate between whoever decides and whatever moves. Plain rules, no model; the same inputs, the same verdicts."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from uuid import UUID

from nano_agent_ros.robot.status import Fault
from nano_agent_ros.safety.order import Allowed, Order, Refused, RobotView, Verdict
from nano_agent_ros.safety.policy import CALMING, Policy, SkillRule
from nano_agent_ros.safety.ways import Ways
from nano_agent_ros.skills.site import Site

MEMORY = 10_000  # actions that are remembered


@dataclass
class _Seen:
    order: Order
    at: float
    admitted: bool = False
    asked_at: float | None = None
    confirmed: bool = False
    void: bool = False


class Gate:
    """Judges every action before it reaches a robot: when it arrives, and again when it is to begin.

    Times are seconds of one clock, which the caller reads: `now` never goes back. The first source whose action is
    allowed commands the robot until it is released or silent for `session_timeout_s`; operators may take over. A stop
    voids whatever came before, and what was decided before its acknowledgement stays refused. Not thread safe.
    """

    def __init__(self, policy: Policy, site: Site, stopped: bool = False) -> None:
        """Judge by `policy` on `site`; `stopped`: begin with a stop in force. Raises ConfigError if they disagree."""
        self.policy = policy
        self.stopped = stopped
        self._ways = Ways(policy, site)
        self._not_before = -math.inf
        self._holder: str | None = None
        self._heard_at = -math.inf
        self._seen: OrderedDict[UUID, _Seen] = OrderedDict()
        self._taken: dict[str, deque[float]] = {}

    def check(self, order: Order, now: float, robot: RobotView) -> Verdict:
        """Whether an action may go on its way, or (if it was allowed before) may begin now."""
        if order.skill in CALMING:
            return Allowed()
        seen = self._seen.get(order.action_id)
        refusal = self._check_time(order, seen, now)
        if refusal is not None:
            return refusal
        rule = self.policy.skills.get(order.skill)
        if rule is None:
            return Refused(Fault.NOT_ALLOWED, f"the safety policy does not list '{order.skill}'")
        if not self._may_command(order.source, now):
            return Refused(Fault.NOT_IN_CHARGE, f"'{self._holder}' commands the robot; release it, or wait")
        refusal = self._check_numbers(order, rule)
        if refusal is not None:
            return refusal
        way = self._ways.check(order, rule, now, robot)
        if isinstance(way, Refused):
            return way
        fresh = seen is None or not seen.admitted
        if fresh and not self._in_time(order.skill, rule, now):
            return Refused(Fault.TOO_OFTEN, f"'{order.skill}' was commanded too often; wait a moment")
        if seen is None:
            seen = self._remember(order, now)
        if not (order.confirmed or seen.confirmed) and (why := self._wants_yes(order, rule, way.asks)):
            seen.asked_at = now if seen.asked_at is None else seen.asked_at
            return Refused(Fault.NOT_CONFIRMED, why)
        return self._admit(seen, now, fresh, way.max_speed_mps)

    def watch(self, now: float, robot: RobotView) -> Refused | None:
        """Whether a robot that is moving must be stopped where it is now."""
        return self._ways.watch(now, robot)

    def after(self, order: Order, robot: RobotView) -> RobotView:
        """Where the robot will be once it has done an action, as far as that can be told beforehand."""
        rule = self.policy.skills.get(order.skill)
        return self._ways.after(order, rule, robot) if rule is not None else robot

    def confirm(self, action_id: UUID, now: float) -> bool:
        """A person agrees to an action that was refused as NOT_CONFIRMED; False if there is none, or not any more."""
        seen = self._seen.get(action_id)
        if self.stopped or seen is None or seen.void or seen.asked_at is None:
            return False
        if now - seen.asked_at > self.policy.confirm_timeout_s:
            return False
        seen.confirmed = True
        return True

    def stop(self, now: float) -> None:
        """Refuse everything that moves until `acknowledge`."""
        self.stopped = True
        self._not_before = max(self._not_before, now)
        for seen in self._seen.values():
            seen.void = True

    def acknowledge(self, now: float) -> bool:
        """Let new actions pass again; False if there was no stop."""
        was_stopped, self.stopped = self.stopped, False
        if was_stopped:
            self._not_before = max(self._not_before, now)
        return was_stopped

    def holder(self, now: float) -> str | None:
        """The source that commands the robot, if any."""
        silent = now - self._heard_at > self.policy.session_timeout_s
        return None if silent else self._holder

    def keep(self, now: float) -> None:
        """The source in command still has work in hand; that is no silence."""
        if self._holder is not None:
            self._heard_at = max(self._heard_at, now)

    def release(self) -> str | None:
        """Let any source take command; returns who had it."""
        holder, self._holder = self._holder, None
        return holder

    def _check_time(self, order: Order, seen: _Seen | None, now: float) -> Refused | None:
        if self.stopped:
            return Refused(Fault.STOPPED, "the robot is stopped until the stop is acknowledged")
        if (seen is not None and seen.void) or order.stamp_s <= self._not_before:
            return Refused(Fault.STOPPED, "it was decided before the stop was acknowledged")
        if seen is not None:
            if seen.order != order:
                return Refused(Fault.DUPLICATE, "another action came under the same action_id")
            limit = self.policy.max_wait_s if seen.admitted else self.policy.confirm_timeout_s
            if now - seen.at > limit:
                return Refused(Fault.STALE, f"it waited for {now - seen.at:.0f} s; the limit is {limit:g} s")
            return None
        age = now - order.stamp_s
        if not -self.policy.max_ahead_s <= age <= self.policy.max_age_s:  # NaN is neither
            return Refused(Fault.STALE, f"it was decided {age:.1f} s ago; the limit is {self.policy.max_age_s:g} s")
        return None

    def _may_command(self, source: str, now: float) -> bool:
        return self.holder(now) in (None, source) or source in self.policy.operators

    def _check_numbers(self, order: Order, rule: SkillRule) -> Refused | None:
        for name, value in order.arguments.items():
            if isinstance(value, bool | str):
                continue
            limit = rule.limits.get(name)
            if limit is None:
                return Refused(Fault.LIMIT, f"the safety policy has no limit for {name} of '{order.skill}'")
            if not limit.allows(value):
                unit = f" {limit.unit}" if limit.unit else ""
                why = f"{name} {value:g}{unit} is outside {limit.low:g} to {limit.high:g}{unit}"
                return Refused(Fault.LIMIT, why)
        return None

    def _wants_yes(self, order: Order, rule: SkillRule, zones: tuple[str, ...]) -> str:
        what = order.skill.replace("_", " ")
        if zones:
            return f"a person has to agree to '{what}' in {' and '.join(zones)}"
        risky = self.policy.confirm_risk is not None and max(order.risk, rule.risk) >= self.policy.confirm_risk
        if rule.confirm or order.requires_confirmation or risky:
            return f"a person has to agree to '{what}'"
        return ""

    def _in_time(self, skill: str, rule: SkillRule, now: float) -> bool:
        rate = rule.rate or self.policy.rate
        return sum(now - at < rate.per_s for at in self._taken.get(skill, ())) < rate.count

    def _remember(self, order: Order, now: float) -> _Seen:
        seen = self._seen[order.action_id] = _Seen(order, now)
        while len(self._seen) > MEMORY:
            self._seen.popitem(last=False)
        return seen

    def _admit(self, seen: _Seen, now: float, fresh: bool, max_speed_mps: float | None) -> Allowed:
        order, before = seen.order, self.holder(now)
        if fresh:
            rate = self.policy.skills[order.skill].rate or self.policy.rate
            self._taken.setdefault(order.skill, deque(maxlen=rate.count)).append(now)
            seen.admitted, seen.at = True, now
        self._holder, self._heard_at = order.source, max(self._heard_at, now)
        return Allowed(max_speed_mps, before if before not in (None, order.source) else None)

"""Numbers as they are spoken: counts, durations, distances, speeds and angles, each with what the plan writes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from training.names import number_words
from training.sites import Entity

Limits = tuple[float, float]  # SI


@dataclass(frozen=True)
class Bound:
    """What a slot stands for: an entity, or a value as the plan writes it with its spoken forms."""

    plan: str
    name: str
    forms: tuple[str, ...] = ()
    entity: Entity | None = None


# SI limits of a slot that its skill does not narrow.
DEFAULT_LIMITS: dict[str, Limits] = {
    "count": (2, 100),
    "duration": (1, 7200),
    "distance": (0.01, 2),
    "speed": (0.05, 1.5),
    "angle": (0.05, 6.2832),
}


Values = list[tuple[float, Bound]]  # SI value and how it is written and spoken


def _value(plan: str, *forms: str) -> Bound:
    return Bound(plan, forms[0], forms)


@cache
def quantities(kind: str, low: float, high: float) -> tuple[Bound, ...]:
    """The values of a kind of slot within SI limits."""
    return tuple(b for si, b in _ALL[kind]() if low - 1e-9 <= si <= high + 1e-9)


def _counts() -> Values:
    special = {2: ("a couple of", "a pair of"), 6: ("half a dozen",), 12: ("a dozen",), 24: ("two dozen",)}
    numbers = (*range(2, 13), 15, 20, 24)
    return [(n, _value(str(n), str(n), number_words(n), number_words(n), *special.get(n, ()))) for n in numbers]


def _durations() -> Values:
    out: Values = []
    forms: tuple[str, ...]
    for n in (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 75, 80, 90, 100, 120):
        w = number_words(n)
        out.append((n, _value(f"{n} s", f"{n} seconds", f"{w} seconds", f"{w} seconds", f"{n} secs", f"{w} secs")))
    out.append((30, _value("30 s", "30 seconds", "half a minute", "thirty seconds")))
    out.append((60, _value("1 min", "1 minute", "a minute", "one minute", "one min")))
    out.append((90, _value("1.5 min", "1.5 minutes", "a minute and a half", "one and a half minutes")))
    out.append((150, _value("2.5 min", "2.5 minutes", "two and a half minutes", "two and a half minutes")))
    for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 45, 50, 60, 90):
        w = number_words(n)
        forms = (f"{n} minutes", f"{w} minutes", f"{w} minutes", f"{n} min", f"{w} mins")
        out.append((60 * n, _value(f"{n} min", *forms)))
    out.append((120, _value("2 min", "2 minutes", "two minutes", "a couple of minutes")))
    out.append((900, _value("15 min", "15 minutes", "a quarter of an hour", "quarter of an hour", "fifteen minutes")))
    out.append((1800, _value("30 min", "30 minutes", "half an hour", "half an hour", "thirty minutes")))
    out.append((2700, _value("45 min", "45 minutes", "three quarters of an hour", "forty five minutes")))
    out.append((3600, _value("1 h", "1 hour", "an hour", "one hour")))
    out.append((5400, _value("1.5 h", "1.5 hours", "an hour and a half", "one and a half hours")))
    out.append((7200, _value("2 h", "2 hours", "two hours", "a couple of hours")))
    out += [(3600 * n, _value(f"{n} h", f"{n} hours", f"{number_words(n)} hours")) for n in (3, 4, 5, 6, 8, 10, 12, 24)]
    return out


def _distances() -> Values:
    out: Values = []
    forms: tuple[str, ...]
    for n in (2, 3, 5, 8, 10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 75, 80, 90, 120, 150):
        w = number_words(n)
        forms = (f"{n} centimetres", f"{w} centimetres", f"{n} cm", f"{w} centimeters", f"{w} centis")
        out.append((n / 100, _value(f"{n} cm", *forms)))
    for n in (50, 20, 80, 100, 150):
        out.append((n / 1000, _value(f"{n} mm", f"{n} millimetres", f"{number_words(n)} millimetres", f"{n} mm")))
    for n in (1, 2, 3, 4, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100):
        w, s = number_words(n), "" if n == 1 else "s"
        forms = (f"{n} metre{s}", f"{w} metre{s}", f"{w} meter{s}", f"{n} m", f"{n} meter{s}", f"{w} metre{s}")
        out += [(n, _value(f"{n} m", *forms))] * (1 if n > 5 else 2)
        if n < 5:
            forms = (f"{n}.5 metres", f"{w} and a half metres", f"{w} point five metres", f"{n}.5 m")
            out.append((n + 0.5, _value(f"{n}.5 m", *forms)))
    out.append((0.5, _value("0.5 m", "half a metre", "half a meter", "0.5 metres", "point five metres")))
    out.append((1.0, _value("1 m", "1 metre", "a metre", "a meter", "one metre")))
    out.append((1.5, _value("1.5 m", "1.5 metres", "a metre and a half", "a meter and a half")))
    out.append((1.2, _value("1.2 m", "1.2 metres", "one point two metres", "a metre twenty")))
    out.append((2.0, _value("2 m", "2 metres", "a couple of metres", "two metres")))
    for n in (2, 3, 7, 8):
        forms = (f"0.{n} metres", f"zero point {number_words(n)} metres", f"point {number_words(n)} metres")
        out.append((n / 10, _value(f"0.{n} m", *forms)))
    return out


def _speeds() -> Values:
    out: Values = []
    forms: tuple[str, ...]
    for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14):
        text, whole = f"{n / 10:g}", number_words(n // 10)
        w = f"{whole} point {number_words(n % 10)}"
        short = f"point {number_words(n % 10)}" if n < 10 else w
        forms = (f"{text} metres per second", f"{w} metres per second", f"{short} metres per second", f"{text} m/s")
        forms += (f"{w} meters per second", f"{short} metres a second")
        out.append((n / 10, _value(f"{text} m/s", *forms)))
    out.append((0.5, _value("0.5 m/s", "0.5 metres per second", "half a metre per second", "half a meter per second")))
    out.append((1.0, _value("1 m/s", "1 metre per second", "one metre per second", "a metre per second")))
    out.append((1.5, _value("1.5 m/s", "1.5 metres per second", "one and a half metres per second")))
    for n in (10, 15, 20, 25, 30, 35, 40, 50, 60, 65, 70, 75, 80, 90, 100):
        w = number_words(n)
        forms = (f"{n} percent", f"{w} percent", f"{w} per cent", f"{n} %", f"{n}%")
        out.append((1.5 * n / 100, _value(f"{n} %", *forms)))
    for n in (1, 2, 3, 4, 5):
        w, s = number_words(n), "" if n == 1 else "s"
        forms = (f"{n} kilometre{s} per hour", f"{w} kilometre{s} per hour", f"{n} km/h", f"{w} kilometre{s} an hour")
        out.append((n / 3.6, _value(f"{n} km/h", *forms)))
    for n in (2, 3, 4, 5, 10, 20):
        w = number_words(n)
        out.append((float(n), _value(f"{n} m/s", f"{n} metres per second", f"{w} metres per second")))
    out += [(1.5 * n / 100, _value(f"{n} %", f"{n} percent", f"{number_words(n)} percent")) for n in (150, 200, 300)]
    return out


def _angles() -> Values:
    out: Values = []
    for n in (5, 10, 15, 20, 30, 35, 40, 45, 50, 60, 70, 75, 80, 90, 90, 100, 110, 120, 135, 150, 180, 180, 200, 240):
        w = number_words(n)
        out.append((math.radians(n), _value(f"{n} deg", f"{n} degrees", f"{w} degrees", f"{n}°", f"{w} degrees")))
    for n in (270, 300, 360, 400, 500, 720):
        out.append((math.radians(n), _value(f"{n} deg", f"{n} degrees", f"{number_words(n)} degrees")))
    return out


_ALL = {"count": _counts, "duration": _durations, "distance": _distances, "speed": _speeds, "angle": _angles}

"""Any number of a kind with its unit, drawn within limits, so that numbers are copied rather than remembered."""

from __future__ import annotations

import math
import random

from training.names import number_words
from training.quantities import Bound, Limits, quantities

COMMON = 0.5  # share of the values that people say most


def draw_quantity(rng: random.Random, kind: str, limits: Limits) -> Bound | None:
    """A value within SI limits, a common one or any; None if there is none."""
    low, high = limits
    if rng.random() > COMMON:
        for _ in range(8):
            si, bound = _DRAWN[kind](rng, low, high)
            if low - 1e-9 <= si <= high + 1e-9:
                return bound
    choices = quantities(kind, low, high)
    return choices[int(rng.random() * len(choices))] if choices else None


def in_words(rng: random.Random, n: int) -> str:
    """0 to 9999 as somebody says it."""
    if n >= 1000:
        thousands, rest = divmod(n, 1000)
        if n % 100 == 0 and thousands == 1 and rest and rng.random() < 0.4:
            return f"{number_words(n // 100)} hundred"
        first = "a thousand" if thousands == 1 and rng.random() < 0.4 else f"{number_words(thousands)} thousand"
        return first + (f" {in_words(rng, rest)}" if rest else "")
    if n < 100:
        return number_words(n)
    hundreds, rest = divmod(n, 100)
    first = "a hundred" if hundreds == 1 and rng.random() < 0.4 else f"{number_words(hundreds)} hundred"
    if not rest:
        return first
    if rest > 9 and rng.random() < 0.12:
        return f"{number_words(hundreds)} {number_words(rest)}"
    return f"{first}{rng.choice((' and ', ' and ', ' '))}{number_words(rest)}"


def decimal_words(rng: random.Random, value: float) -> str:
    """A number with up to two decimals as somebody says it: "one and a half", "point two five"."""
    whole, part = divmod(round(value * 100), 100)
    if not part:
        return in_words(rng, whole)
    fraction = {50: "a half", 25: "a quarter", 75: "three quarters"}.get(part)
    if fraction and whole and rng.random() < 0.6:
        return f"{number_words(whole)} and {fraction}"
    digits = f"{part:02d}".rstrip("0")
    after = " ".join(number_words(int(d)) for d in digits)
    if len(digits) == 2 and digits[0] != "0" and rng.random() < 0.3:
        after = number_words(part)
    before = number_words(whole) if whole or rng.random() < 0.6 else ""
    return f"{before} point {after}".strip()


def _log_integer(rng: random.Random, low: int, high: int) -> int:
    return int(math.exp(rng.uniform(math.log(low), math.log(high + 1))))


def _bound(rng: random.Random, value: float, unit: str, written: tuple[str, ...], spoken: tuple[str, ...]) -> Bound:
    """`written` and `spoken` are units that go with digits and with words."""
    digits = f"{value:g}"
    number = f"{digits}{unit}" if unit.startswith("%") else f"{digits} {rng.choice(written)}"
    if number.endswith(" cm") and rng.random() < 0.3:
        number = number.replace(" ", "")
    words = tuple(f"{decimal_words(rng, value)} {rng.choice(spoken)}" for _ in range(2))
    return Bound(f"{digits} {unit}", number, (number, *words))


def _count(rng: random.Random, low: float, high: float) -> tuple[float, Bound]:
    top = int(min(high, 100))
    n = _log_integer(rng, max(2, int(low)), top) if rng.random() < 0.7 else rng.randint(2, max(2, top))
    return n, Bound(str(n), str(n), (str(n), in_words(rng, n)))


def _duration(rng: random.Random, low: float, high: float) -> tuple[float, Bound]:
    x = rng.random()
    units: tuple[str, ...]
    if low > 60:
        if x < 0.4:
            n = rng.randint(int(low // 3600) + 1, 24)
            return 3600.0 * n, _bound(rng, n, "h", ("hours", "hours", "h"), ("hours",))
        n = rng.randint(int(low // 60) + 1, int(low // 60) * 3)
        return 60.0 * n, _bound(rng, n, "min", ("minutes", "min"), ("minutes",))
    if x < 0.4:
        n = rng.choice((_log_integer(rng, 2, 180), rng.randint(2, 60)))
        return n, _bound(rng, n, "s", ("seconds", "seconds", "sec", "secs", "s"), ("seconds", "seconds", "secs"))
    if x < 0.82:
        n = rng.choice((_log_integer(rng, 2, 120), rng.randint(2, 30)))
        units = ("minutes", "minutes", "minutes", "min", "mins")
        return 60.0 * n, _bound(rng, n, "min", units, ("minutes", "minutes", "mins"))
    if x < 0.92:
        half = rng.randint(1, 20) + 0.5
        units = ("minutes", "minutes", "min")
        return 60 * half, _bound(rng, half, "min", units, ("minutes",))
    hours = rng.choice((1.5, 1.25, 1.75, 0.75, 0.5, 0.25))
    spoken = {0.75: "three quarters of an hour", 0.5: "half an hour", 0.25: "a quarter of an hour"}.get(hours)
    if spoken:
        minutes = int(60 * hours)
        return 3600 * hours, Bound(f"{minutes} min", f"{minutes} minutes", (f"{minutes} minutes", spoken, spoken))
    return 3600 * hours, _bound(rng, hours, "h", ("hours",), ("hours",))


def _distance(rng: random.Random, low: float, high: float) -> tuple[float, Bound]:
    x = rng.random()
    metres = (("metres", "metres", "meters", "m"), ("metres", "meters"))
    if low > 1:
        if x < 0.2:
            n = 10 * rng.randint(int(10 * low) + 1, int(80 * low))
            return n / 100, _bound(rng, n, "cm", ("centimetres", "cm", "centimeters"), ("centimetres", "centimeters"))
        n = rng.choice((rng.randint(int(low) + 1, int(low) * 8), 10 * rng.randint(1, 20), 100))
        return n, _bound(rng, n, "m", *metres)
    if x < 0.4:
        n = rng.choice((rng.randint(2, 100), _log_integer(rng, 2, 300)))
        units = ("centimetres", "centimeters", "cm", "cm")
        return n / 100, _bound(rng, n, "cm", units, ("centimetres", "centimeters", "centimetres", "centis"))
    if x < 0.55:
        n = rng.choice((rng.randint(2, 99) * 10, rng.randint(1, 20) * 50, rng.randint(11, 950)))
        units = ("millimetres", "millimeters", "mm", "mm")
        return n / 1000, _bound(rng, n, "mm", units, ("millimetres", "millimeters", "mills", "mil"))
    if x < 0.62:
        quarters = rng.choice((0.25, 0.75))
        spoken = {0.25: "a quarter of a metre", 0.75: "three quarters of a metre"}[quarters]
        text = f"{quarters:g} metres"
        return quarters, Bound(f"{quarters:g} m", text, (text, spoken, spoken))
    if x < 0.72:
        whole, rest = rng.randint(1, 4), rng.randint(2, 19) * 5
        value = whole + rest / 100
        form = f"{'a' if whole == 1 and rng.random() < 0.5 else number_words(whole)} metre{'s' * (whole > 1)}"
        text = f"{value:g} metres"
        return value, Bound(f"{value:g} m", text, (text, f"{form} {number_words(rest)}"))
    value = rng.choice((rng.randint(1, 50) / 10, rng.randint(1, 20) / 4, rng.randint(3, 200) / 100))
    value = max(value, 0.1)
    singular = value == 1
    return value, _bound(rng, value, "m", *((("metre",), ("metre", "meter")) if singular else metres))


def _speed(rng: random.Random, low: float, high: float) -> tuple[float, Bound]:
    x = rng.random()
    if low > 1.5:
        if x < 0.35:  # faster than any robot, by car
            n = rng.choice((rng.randint(6, 40), 10 * rng.randint(1, 25), 100))
            spoken = ("kilometres per hour", "kilometres an hour", "kilometers per hour", "k an hour")
            return n / 3.6, _bound(rng, n, "km/h", ("km/h", "kilometres per hour", "kph"), spoken)
        if x < 0.5:
            n = 10 * rng.randint(11, 50)
            return 1.5 * n / 100, _bound(rng, n, "%", ("percent",), ("percent", "per cent"))
        n = rng.choice((rng.randint(2, 40), rng.randint(16, 60) / 10))
        return n, _bound(rng, n, "m/s", ("metres per second", "m/s"), ("metres per second",))
    if x < 0.5:
        n = rng.randint(4, 100)
        form = rng.choice((f"{n}%", f"{n} %", f"{n} percent", f"{n} percent"))
        words = in_words(rng, n)
        return 1.5 * n / 100, Bound(f"{n} %", form, (form, f"{words} percent", f"{words} per cent"))
    units = ("metres per second", "meters per second", "m/s", "metres a second")
    if x < 0.85:
        value = rng.choice((rng.randint(1, 15) / 10, rng.randint(1, 6) / 4, rng.randint(2, 30) / 20))
        if value == 1:
            return 1.0, _bound(rng, 1, "m/s", ("metre per second", "m/s"), ("metre per second", "meter per second"))
        if value in (0.25, 0.75) and rng.random() < 0.4:
            spoken = f"{'a quarter' if value == 0.25 else 'three quarters'} of a metre per second"
            return value, Bound(f"{value:g} m/s", f"{value:g} m/s", (f"{value:g} metres per second", spoken, spoken))
        return value, _bound(rng, value, "m/s", units, (units[0], units[0], units[1], units[3]))
    n = rng.choice((1.5, 2.5, 3.5, 4.5, 2, 3, 4, 5))
    return n / 3.6, _bound(rng, n, "km/h", ("km/h", "kilometres per hour", "kph"), ("kilometres per hour", "k an hour"))


def _angle(rng: random.Random, low: float, high: float) -> tuple[float, Bound]:
    if low > 6:
        n = rng.randint(361, 900)
    else:
        n = rng.choice((rng.randint(5, 180), rng.randint(3, 360), 5 * rng.randint(1, 72)))
    return math.radians(n), _bound(rng, n, "deg", ("degrees", "degrees", "degrees", "deg"), ("degrees",))


_DRAWN = {"count": _count, "duration": _duration, "distance": _distance, "speed": _speed, "angle": _angle}

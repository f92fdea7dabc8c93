"""Numbers with units, as spoken and written in replies (`2 min`, `50 %`), to SI."""

from __future__ import annotations

import math
import re

# quantity -> {unit as the reply writes it: factor to SI}
UNITS: dict[str, dict[str, float]] = {
    "duration": {"s": 1.0, "min": 60.0, "h": 3600.0},
    "distance": {"mm": 0.001, "cm": 0.01, "m": 1.0},
    "speed": {"m/s": 1.0, "km/h": 1 / 3.6, "%": math.nan},  # a percentage needs the limit: see to_si
    "angle": {"deg": math.pi / 180, "rad": 1.0},
}
SI = {"duration": "s", "distance": "m", "speed": "m/s", "angle": "rad"}

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z/%]*)\s*")


def to_si(text: str | float, quantity: str, maximum: float) -> float:
    """Convert `2 min` (a bare number is SI already) to SI; a speed in % is relative to `maximum` (m/s).

    Raises ValueError for text that is no number or a unit that the quantity does not have.
    """
    if isinstance(text, int | float):
        value = float(text)
    else:
        match = _NUMBER.fullmatch(text)
        if not match:
            raise ValueError(f"'{text}' is not a {quantity} such as '2 {next(iter(UNITS[quantity]))}'")
        number, unit = float(match[1]), match[2] or SI[quantity]
        if unit not in UNITS[quantity]:
            raise ValueError(f"'{unit}' is not a unit of {quantity}; use one of {', '.join(UNITS[quantity])}")
        value = number / 100 * maximum if unit == "%" else number * UNITS[quantity][unit]
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is not a finite {quantity}")
    return round(value, 6)

"""How sure the model is of a call, made honest: the probability of its tokens, mapped to how often that is right.

The product of the probabilities of the chosen tokens is not how often such calls are right: a network is too sure where
it learnt by heart, and long calls have smaller products. A model folder may hold `confidence.json`, written by
`python -m training.calibrate` from conversations that the model was not trained on: two numbers that map one to the
other (Platt scaling: Platt 1999, "Probabilistic outputs for support vector machines").
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from nano_agent_ros.errors import ConfigError

FILE = "confidence.json"
FORMAT = "nano_agent_ros confidence"
LEAST = 1e-6  # probabilities nearer to 0 or 1 than this say no more
MOST_ODDS = 700.0  # log odds whose exponential a float holds


@dataclass(frozen=True)
class Confidence:
    """Maps the probability of a call's chosen tokens to that of the call being right: sigmoid(scale * logit + offset).

    The default changes nothing.
    """

    scale: float = 1.0
    offset: float = 0.0

    @staticmethod
    def load(folder: str | Path) -> Confidence:
        """That of a model folder, the default if it has none; raises ConfigError for a file that is not one."""
        path = Path(folder) / FILE
        if not path.exists():
            return Confidence()
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"format is not {FORMAT!r}")
            found = Confidence(float(data["scale"]), float(data["offset"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: cannot be used ({type(error).__name__}: {error}); write it again with "
                "python -m training.calibrate, or delete it to go without"
            ) from None
        if not (math.isfinite(found.offset) and 0 < found.scale < math.inf):
            raise ConfigError(f"{path}: scale must be above 0, and both numbers finite; write it again")
        return found

    def __call__(self, probability: float) -> float:
        """Probability in [0, 1] that a call is right whose chosen tokens have this probability; grows with it."""
        if self.scale == 1.0 and self.offset == 0.0:
            return probability
        odds = self.scale * logit(probability) + self.offset
        return 1.0 / (1.0 + math.exp(-odds)) if odds > -MOST_ODDS else 0.0


def logit(probability: float) -> float:
    """Log odds of a probability, which is first kept away from 0 and 1."""
    p = min(max(probability, LEAST), 1.0 - LEAST)
    return math.log(p / (1.0 - p))

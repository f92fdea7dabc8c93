"""Endpointing: a stream of samples goes in, whole utterances come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nano_agent_ros.speech.audio import SAMPLE_RATE
from nano_agent_ros.speech.complete import Ending
from nano_agent_ros.speech.vad import WINDOW, SileroVad

HYSTERESIS = 0.15
"""Speech that has begun goes on while its probability is no more than this below the threshold (as Silero does)."""


@dataclass(frozen=True)
class EndpointConfig:
    """When an utterance begins and ends.

    threshold: speech probability in (0, 1) at which an utterance begins; lower hears more, noise included.
    end_silence_s: pause that ends an utterance. short_silence_s and long_silence_s: the pause that ends one whose words
    so far read whole, or as if more must come (`Endpointer.expect`). min_speech_s: less voice than this is dropped as
    a click. max_utterance_s: longer speech is cut at its quietest moment. pre_roll_s and post_roll_s: audio kept
    around it.
    """

    threshold: float = 0.5
    end_silence_s: float = 0.6
    min_speech_s: float = 0.15
    max_utterance_s: float = 15.0
    pre_roll_s: float = 0.3
    post_roll_s: float = 0.2
    short_silence_s: float = 0.35
    long_silence_s: float = 1.1

    def __post_init__(self) -> None:
        """Raise ValueError for values that cannot work together."""
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold {self.threshold} is not within (0, 1)")
        seconds = ("end_silence_s", "short_silence_s", "long_silence_s", "min_speech_s", "pre_roll_s", "post_roll_s")
        for name in seconds:
            if not 0.0 <= getattr(self, name) <= 10.0:
                raise ValueError(f"{name} {getattr(self, name)} is not within [0, 10] seconds")
        if not 1.0 <= self.max_utterance_s <= 30.0:
            raise ValueError(f"max_utterance_s {self.max_utterance_s} is not within [1, 30] seconds (Whisper's window)")
        if self.pre_roll_s + self.end_silence_s >= self.max_utterance_s:
            raise ValueError("pre_roll_s + end_silence_s must be less than max_utterance_s")

    def silence_s(self, ending: Ending) -> float:
        """The pause that ends an utterance whose words so far have this ending.

        A short pause is never longer than the ordinary one, and a long one never shorter.
        """
        if ending is Ending.WHOLE:
            return min(self.short_silence_s, self.end_silence_s)
        return max(self.long_silence_s, self.end_silence_s) if ending is Ending.OPEN else self.end_silence_s


@dataclass(frozen=True)
class Utterance:
    """What a person said between two pauses.

    samples: float32 [n]; start_s and end_s: where they lie in the stream, pre-roll and post-roll included;
    truncated: cut at max_utterance_s, so the sentence goes on in the next one; lost: cut because sound is missing.
    """

    samples: np.ndarray
    start_s: float
    end_s: float
    sample_rate: int = SAMPLE_RATE
    truncated: bool = False
    lost: bool = False

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class Speech:
    """Speech in progress: what the utterance would be if it ended now.

    settled: a pause follows that is longer than post_roll_s, so that this is the utterance unless the person goes on.
    """

    utterance: Utterance
    settled: bool


class Endpointer:
    """Cuts a stream into utterances.

    How the stream is cut into chunks changes nothing, but for what `expect` changes from where it is called.
    """

    def __init__(
        self, config: EndpointConfig | None = None, vad: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> None:
        """Use `config`, and Silero VAD unless `vad` gives probabilities [n] for float32 [n * 512]."""
        self.config = config or EndpointConfig()
        self._vad = vad or SileroVad()
        self._audio = np.empty(0, np.float32)
        self._origin = 0  # position in the stream of _audio[0]
        self._heard = 0  # position up to which the VAD has listened
        self._emitted = 0  # position up to which utterances have taken audio
        self._expected = (-1.0, Ending.UNSURE)  # where a pause begins, in seconds with post_roll_s, and its ending
        self._begin_wait()

    @property
    def speaking(self) -> bool:
        """Someone is speaking right now (or pauses, and not long enough to end the utterance)."""
        return self._start is not None

    @property
    def pausing(self) -> bool:
        """Someone was speaking and pauses."""
        return self._pause is not None

    @property
    def settled(self) -> bool:
        """The pause has lasted so long that what follows of it would not be kept."""
        post_roll = round(self.config.post_roll_s * SAMPLE_RATE)
        return self._pause is not None and self._heard >= self._pause + post_roll

    def speech(self) -> Speech | None:
        """What was said so far; None if nobody speaks, or not for min_speech_s yet."""
        if self._start is None or not self._voiced_enough():
            return None
        settled = self.settled
        return Speech(self._between(self._pause if settled and self._pause else self._heard, self._heard), settled)

    def expect(self, settled: Utterance, ending: Ending) -> None:
        """Adapt the pause in hand to what was said before it: `settled` is the utterance of its settled `speech()`.

        Without effect once the person speaks on or the utterance is over. May be called from any thread.
        """
        self._expected = (settled.end_s, ending)

    def tune(self, threshold: float) -> None:
        """Set the speech probability at which utterances begin, from now on; raises ValueError outside (0, 1)."""
        self.config = replace(self.config, threshold=threshold)

    def feed(self, samples: np.ndarray) -> list[Utterance]:
        """Take float32 [n] at 16 kHz (n >= 0) and return the utterances that end in it.

        Raises ValueError for another shape or samples that are not finite.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise ValueError(f"audio must be finite samples of shape [n], not {samples.shape}")
        self._audio = np.concatenate([self._audio, samples])
        return self._listen(len(self._audio) - (self._heard - self._origin))

    def flush(self, lost: bool = False) -> list[Utterance]:
        """Return the utterance in progress, if any: the stream has ended. Time runs on for what is fed next.

        `lost`: sound is missing from here on, so that what was said may be only the beginning of it, unless the pause
        that follows had lasted already.
        """
        position = self._origin + len(self._audio)
        rest = position - self._heard
        utterances = []
        if rest:
            self._audio = np.concatenate([self._audio, np.zeros(WINDOW - rest, np.float32)])
            utterances = self._listen(WINDOW)
            self._audio = self._audio[: position - self._origin]
        if self._start is not None:
            lost = lost and not self.settled
            last = self._emit(min(self._pause or position, position), position)
            utterances += [replace(utterance, lost=lost) for utterance in last]
        self._audio = np.empty(0, np.float32)
        self._origin = self._heard = self._emitted = position
        self._begin_wait()
        if isinstance(self._vad, SileroVad):
            self._vad.reset()
        return utterances

    def _begin_wait(self) -> None:
        self._start: int | None = None
        self._pause: int | None = None  # where the pause in hand began
        self._probabilities: list[float] = []

    def _listen(self, available: int) -> list[Utterance]:
        count = available // WINDOW
        if not count:
            return []
        first = self._heard - self._origin
        utterances = []
        for probability in self._vad(self._audio[first : first + count * WINDOW]):
            utterances += self._step(float(probability))
        self._forget()
        return utterances

    def _step(self, probability: float) -> list[Utterance]:
        begin, self._heard = self._heard, self._heard + WINDOW
        if self._start is None:
            if probability < self.config.threshold:
                return []
            self._start = begin
        self._probabilities.append(probability)
        if probability >= self.config.threshold:
            self._pause = None
        elif probability < max(self.config.threshold - HYSTERESIS, 0.01) and self._pause is None:
            self._pause = begin
        if self._pause is not None and self._heard - self._pause >= self._silence_s(self._pause) * SAMPLE_RATE:
            utterances = self._emit(self._pause, self._heard)
            self._begin_wait()
            return utterances
        if self._heard - self._first_sample() >= self.config.max_utterance_s * SAMPLE_RATE:
            return self._cut()
        return []

    def _silence_s(self, pause: int) -> float:
        """How long the pause that began at `pause` must last to end the utterance."""
        end_s, ending = self._expected
        settled_end = pause + round(self.config.post_roll_s * SAMPLE_RATE)
        return self.config.silence_s(ending if round(end_s * SAMPLE_RATE) == settled_end else Ending.UNSURE)

    def _cut(self) -> list[Utterance]:
        """Split speech that is too long at the least voiced window of its last third and go on with the rest."""
        assert self._start is not None
        windows = len(self._probabilities)
        tail = self._probabilities[windows - windows // 3 :]
        quietest = windows - len(tail) + int(np.argmin(tail)) if tail else windows - 1
        cut = self._start + quietest * WINDOW
        rest = self._probabilities[quietest:]
        self._probabilities = self._probabilities[:quietest]
        utterances = self._emit(cut, cut, truncated=True)
        self._probabilities = rest
        self._start = cut
        if self._pause is not None:
            self._pause = max(self._pause, cut)
        return utterances

    def _first_sample(self) -> int:
        assert self._start is not None
        return max(self._start - round(self.config.pre_roll_s * SAMPLE_RATE), self._emitted)

    def _emit(self, speech_end: int, limit: int, truncated: bool = False) -> list[Utterance]:
        if not self._voiced_enough():
            return []
        utterance = self._between(speech_end, limit, truncated)
        self._emitted = round(utterance.end_s * SAMPLE_RATE)
        return [utterance]

    def _voiced_enough(self) -> bool:
        voiced = sum(p >= self.config.threshold for p in self._probabilities)
        return voiced * WINDOW >= self.config.min_speech_s * SAMPLE_RATE

    def _between(self, speech_end: int, limit: int, truncated: bool = False) -> Utterance:
        first = self._first_sample()
        last = min(speech_end + round(self.config.post_roll_s * SAMPLE_RATE), limit)
        samples = self._audio[first - self._origin : last - self._origin].copy()
        return Utterance(samples, first / SAMPLE_RATE, last / SAMPLE_RATE, truncated=truncated)

    def _forget(self) -> None:
        """Drop audio that no utterance can need any more."""
        if self._start is not None:
            keep = self._first_sample()
        else:
            keep = max(self._heard - round(self.config.pre_roll_s * SAMPLE_RATE), self._emitted)
        keep = max(keep, self._origin)
        self._audio = self._audio[keep - self._origin :]
        self._origin = keep

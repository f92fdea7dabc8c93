"""`nano-agent say`: try the robot's voice."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import numpy as np

from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.playback import Loudspeaker, list_loudspeakers
from nano_agent_ros.speech.speakable import MAX_LENGTH, sentences
from nano_agent_ros.speech.voice import VoiceConfig
from nano_agent_ros.speech.voices import ENGINES, open_voice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what is said (default: lines of standard input)")
    parser.add_argument("--voice", dest="engine", choices=ENGINES, default="auto", help="what speaks (default: auto)")
    parser.add_argument("--voice-name", default="", metavar="NAME", help="Piper: an .onnx file; espeak: such as en-gb")
    parser.add_argument("--language", default="en", help="ISO 639-1 code (default: en)")
    parser.add_argument("--command", dest="program", default="", metavar="CMD", help="program for --voice command")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, 0.5 to 2 (default: 1)")
    parser.add_argument("--volume", type=float, default=0.8, help="loudness, 0 to 1 (default: 0.8)")
    parser.add_argument("--device", help="loudspeaker: index or part of its name (default: the system's)")
    parser.add_argument("--list-devices", action="store_true", help="print the loudspeakers")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="write a sound file instead of playing")


def run(args: argparse.Namespace) -> int:
    """Speak, or write a file; raises SpeechError where that cannot be."""
    if args.list_devices:
        print("\n".join(list_loudspeakers()) or "no loudspeaker")
        return 0
    for name, low, high in (("rate", 0.5, 2.0), ("volume", 0.0, 1.0)):
        if not low <= getattr(args, name) <= high:
            raise SpeechError(f"--{name} {getattr(args, name):g} is not within {low:g} to {high:g}")
    config = VoiceConfig(args.engine, args.voice_name, args.language, args.rate, args.program)
    voice = open_voice(config, lambda text: print(f"nano-agent say: {text}", file=sys.stderr))
    texts = [" ".join(args.text)] if args.text else sys.stdin
    try:
        sounds = (voice.synthesize(part) for text in texts for part in sentences(text, MAX_LENGTH, args.language))
        if args.wav:
            import soundfile

            said = list(sounds)
            if not said:
                raise SpeechError("there is nothing to say: no letter and no digit")
            rate = said[0].sample_rate
            soundfile.write(args.wav, args.volume * np.concatenate([sound.samples for sound in said]), rate)
            return 0
        loudspeaker = Loudspeaker(args.device)
        try:
            cut = threading.Event()
            for sound in sounds:
                loudspeaker.play(sound, cut, args.volume)
            loudspeaker.rest(cut)
        finally:
            loudspeaker.close()
    finally:
        voice.close()
    return 0

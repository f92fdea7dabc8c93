"""Which voice speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.piper_voice import PiperVoice, find_piper
from nano_agent_ros.speech.program_voice import CommandVoice, EspeakVoice
from nano_agent_ros.speech.voice import Synthesizer, VoiceConfig

ENGINES = ("auto", "piper", "espeak", "command")
TRIAL = "Ready."


def open_voice(config: VoiceConfig, warn: Callable[[str], None] = lambda text: None) -> Synthesizer:
    """The voice that `config` asks for, after it has spoken a word into memory; raises SpeechError.

    auto: the command if one is given, else Piper if it is installed with a voice, else espeak-ng; `warn` is told of a
    Piper that is there and does not work.
    """
    engine = config.engine
    if engine == "auto":
        if config.command:
            return _tried(CommandVoice(config))
        try:
            return _tried(PiperVoice(config))
        except SpeechError as error:
            if find_piper() is not None:
                warn(f"{error}; espeak-ng speaks instead")
        if ".onnx" in config.voice:
            config = replace(config, voice="")
        return _tried(EspeakVoice(config))
    makers: dict[str, Callable[[VoiceConfig], Synthesizer]]
    makers = {"piper": PiperVoice, "espeak": EspeakVoice, "command": CommandVoice}
    return _tried(makers[engine](config))


def _tried(voice: Synthesizer) -> Synthesizer:
    try:
        voice.synthesize(TRIAL)
    except SpeechError:
        voice.close()
        raise
    return voice

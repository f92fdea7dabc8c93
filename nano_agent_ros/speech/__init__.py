"""Hearing: sources of audio, endpointing, transcription and the words that stop the robot without the model."""

from nano_agent_ros.speech.audio import SAMPLE_RATE, AudioSource, SpeechError, WavSource
from nano_agent_ros.speech.endpoint import EndpointConfig, Endpointer, Utterance
from nano_agent_ros.speech.microphone import MicrophoneSource
from nano_agent_ros.speech.stop_words import is_stop
from nano_agent_ros.speech.transcribe import Transcriber, Transcription

__all__ = [
    "SAMPLE_RATE",
    "AudioSource",
    "EndpointConfig",
    "Endpointer",
    "MicrophoneSource",
    "SpeechError",
    "Transcriber",
    "Transcription",
    "Utterance",
    "WavSource",
    "is_stop",
]

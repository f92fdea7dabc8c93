"""Hearing: sources of audio, endpointing, transcription and the words that stop the robot without the model."""

from nano_agent_ros.speech.audio import SAMPLE_RATE, AudioSource, SpeechError, WavSource
from nano_agent_ros.speech.complete import Completeness, Ending
from nano_agent_ros.speech.endpoint import EndpointConfig, Endpointer, Speech, Utterance
from nano_agent_ros.speech.microphone import MicrophoneSource
from nano_agent_ros.speech.partial import Agreement, Pace, stops_already
from nano_agent_ros.speech.stop_words import is_stop
from nano_agent_ros.speech.transcribe import Transcriber, Transcription

__all__ = [
    "SAMPLE_RATE",
    "Agreement",
    "AudioSource",
    "Completeness",
    "Ending",
    "EndpointConfig",
    "Endpointer",
    "MicrophoneSource",
    "Pace",
    "Speech",
    "SpeechError",
    "Transcriber",
    "Transcription",
    "Utterance",
    "WavSource",
    "is_stop",
    "stops_already",
]

"""Voices that are a program started for each sentence: espeak-ng, and any command."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import string
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from nano_agent_ros.processes import describe_exit
from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.voice import SILENT, WORDS_PER_MINUTE, Sound, VoiceConfig, decode, kill, start

MAX_BYTES = 64 << 20
"""Of sound for one sentence, some minutes; a program that gives more has gone wrong."""

PLACEHOLDERS = ("wav", "text_file", "voice", "language", "rate", "words_per_minute")


class ProgramVoice:
    """A program that is started for each sentence: text on its standard input, a sound file on its standard output.

    `command` may hold {wav}, a file that it is to write instead, and {text_file}, one that holds the text.
    """

    def __init__(self, name: str, command: Sequence[str], timeout_s: float) -> None:
        """`timeout_s`: a program that takes longer for a sentence is killed."""
        self.name = name
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._running: subprocess.Popen[bytes] | None = None
        self._closed = False

    def synthesize(self, sentence: str) -> Sound:
        """Run the program once."""
        with tempfile.TemporaryDirectory(prefix="nano-agent-voice-") as folder:
            files = {"{wav}": f"{folder}/speech.wav", "{text_file}": f"{folder}/text.txt"}
            command = list(self._command)
            for placeholder, path in files.items():
                command = [word.replace(placeholder, path) for word in command]
            if command != list(self._command):
                Path(files["{text_file}"]).write_text(sentence + "\n", encoding="utf-8")
            output = self._run(command, sentence)
            if any("{wav}" in word for word in self._command):
                wav = Path(files["{wav}"])
                output = wav.read_bytes() if wav.is_file() else b""
        try:
            return decode(output)
        except SpeechError as error:
            raise SpeechError(f"voice {self.name}: {self._command[0]} gave {error}") from error

    def close(self) -> None:
        """Kill the program if it runs."""
        self._closed = True
        if self._running is not None:
            kill(self._running)

    def _run(self, command: Sequence[str], sentence: str) -> bytes:
        with tempfile.TemporaryFile() as errors:
            process = start(self.name, command, errors.fileno())
            self._running = process
            overdue = threading.Event()

            def end() -> None:
                overdue.set()
                kill(process)

            watch = threading.Timer(self._timeout_s, end)
            watch.daemon = True
            watch.start()
            try:
                if self._closed:
                    kill(process)
                assert process.stdin is not None and process.stdout is not None
                with contextlib.suppress(BrokenPipeError):  # it need not read; its exit code tells
                    process.stdin.write(sentence.encode() + b"\n")
                    process.stdin.close()
                output = process.stdout.read(MAX_BYTES + 1)
                if len(output) > MAX_BYTES:
                    kill(process)
                code = process.wait()
            finally:
                watch.cancel()
                self._running = None
                kill(process)
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()  # type: ignore[union-attr]
                process.stdout.close()  # type: ignore[union-attr]
            if overdue.is_set():
                raise SpeechError(f"voice {self.name}: no sound within {self._timeout_s:g} s; {command[0]} was killed")
            if self._closed:
                raise SpeechError(f"voice {self.name}: closed")
            if len(output) > MAX_BYTES:
                raise SpeechError(f"voice {self.name}: more than {MAX_BYTES >> 20} MB for one sentence; killed")
            if code:
                errors.seek(0)
                said = errors.read()[-300:].decode(errors="replace").strip() or "it says nothing"
                raise SpeechError(f"voice {self.name}: {command[0]} failed ({describe_exit(code)}): {said}")
            return output


class EspeakVoice(ProgramVoice):
    """espeak-ng, or its predecessor espeak: some 20 ms for a sentence, in about a hundred languages. GPL-3.0."""

    def __init__(self, config: VoiceConfig) -> None:
        """Find the program; raises SpeechError if there is none or it lacks the voice."""
        program = shutil.which("espeak-ng") or shutil.which("espeak")
        if program is None:
            raise SpeechError(f"no voice: espeak-ng is not installed (apt-get install espeak-ng); {SILENT}")
        speed = str(round(WORDS_PER_MINUTE * config.rate))
        options = ["-v", config.voice or config.language or "en", "-s", speed, "-b", "1", "--stdin", "--stdout"]
        super().__init__("espeak", [program, *options], config.timeout_s)


class CommandVoice(ProgramVoice):
    """Any program, by a template such as `pico2wave -l en-GB -w {wav}`; no shell is involved."""

    def __init__(self, config: VoiceConfig) -> None:
        """Fill the template in; raises SpeechError for one that cannot be used."""
        try:
            words = shlex.split(config.command)
            used = {name for word in words for _, name, _, _ in string.Formatter().parse(word) if name is not None}
        except ValueError as error:
            raise SpeechError(f"voice command {config.command!r} cannot be read: {error}") from error
        if not words:
            raise SpeechError(f"voice command: no program is given; set parameter command; {SILENT}")
        if unknown := used - set(PLACEHOLDERS):
            raise SpeechError(
                f"voice command: {{{min(unknown)}}} is none of {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}; "
                "the text comes on standard input, or in {text_file}"
            )
        program = shutil.which(words[0])
        if program is None:
            raise SpeechError(f"voice command: there is no program '{words[0]}'; install it or give its path; {SILENT}")
        values = {
            "wav": "{wav}",
            "text_file": "{text_file}",
            "voice": config.voice,
            "language": config.language,
            "rate": f"{config.rate:g}",
            "words_per_minute": str(round(WORDS_PER_MINUTE * config.rate)),
        }
        super().__init__("command", [program, *(word.format(**values) for word in words[1:])], config.timeout_s)

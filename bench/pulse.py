"""A PulseAudio daemon of one's own: what is played to its null sink is what its microphones hear. Tests use it too."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

SINK = "speaker"
"""Where children play by default; `speaker.monitor` is what they play."""

SOURCE = "mic"
"""The default microphone."""

PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")
START_S = 60.0


class PulseError(RuntimeError):
    """There is no PulseAudio to be had; the message names the cause and the way out."""


class Pulse:
    """A private daemon: no system service, no sound card, nobody else's sound.

    `sources` are its microphones, the first is the default; all of them hear the sink. `environment` is for child
    processes: PulseAudio's and ALSA's clients (PortAudio too, which reads its configuration once in a process) then see
    this daemon only. ALSA knows each microphone under its name, and `default`.
    """

    def __init__(self, folder: Path, sources: Sequence[str] = (SOURCE,)) -> None:
        """Prepare in `folder`, which must be short (a socket's path has 107 characters); nothing runs yet."""
        self.sink, self.sources = SINK, tuple(sources)
        self.log = folder / "pulseaudio.log"
        self._folder, self._socket = folder, folder / "native"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._modules: dict[str, str] = {}
        self._played = 0
        devices = [f"{kind}.{name} {{ type pulse device {name} }}\n" for name in sources for kind in ("pcm", "ctl")]
        default = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"
        (folder / "asound.conf").write_text(default + "".join(devices), encoding="utf-8")
        self.environment = os.environ | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        }

    @property
    def running(self) -> bool:
        """Whether the daemon lives."""
        return self._daemon is not None and self._daemon.poll() is None

    def start(self) -> None:
        """Start the daemon with sink and microphones; raises PulseError if that cannot be."""
        missing = [program for program in PROGRAMS if not shutil.which(program)]
        if missing:
            raise PulseError(f"{', '.join(missing)} not installed (apt-get install pulseaudio pulseaudio-utils)")
        modules = (
            f"module-native-protocol-unix socket={self._socket} auth-anonymous=1",
            f"module-null-sink sink_name={SINK}",
        )
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        with self.log.open("w") as log:
            self._daemon = subprocess.Popen(
                command + [word for module in modules for word in ("-L", module)],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_S
        while not self._try("set-default-sink", SINK):
            if not self.running or time.monotonic() > until:
                self.stop()
                raise PulseError(f"PulseAudio does not start here: {self.log.read_text(encoding='utf-8')[-300:]}")
            time.sleep(0.1)
        for source in self.sources:
            self.plug(source)
        self.pactl("set-default-source", self.sources[0])

    def stop(self) -> None:
        """End the daemon; harmless when repeated."""
        daemon, self._daemon = self._daemon, None
        self._modules.clear()
        if daemon is not None:
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(timeout=20)
            self._socket.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start again: every client loses its connection."""
        self.stop()
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The daemon hangs, as a driver may: clients stay connected and nothing comes."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._daemon.send_signal(signal.SIGCONT)

    def plug(self, source: str = SOURCE) -> None:
        """A microphone comes (start has plugged in all of `sources`)."""
        self._modules[source] = self.pactl(
            "load-module", "module-remap-source", f"master={SINK}.monitor", f"source_name={source}"
        ).strip()

    def unplug(self, source: str = SOURCE) -> None:
        """A microphone goes; the daemon and the others stay."""
        self.pactl("unload-module", self._modules.pop(source))

    def pactl(self, *arguments: str) -> str:
        """Run pactl and return what it prints; raises PulseError."""
        done = self._pactl(*arguments)
        if done.returncode:
            raise PulseError(f"pactl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _try(self, *arguments: str) -> bool:
        return self._pactl(*arguments).returncode == 0

    def _pactl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["pactl", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    def player(self, samples: np.ndarray, rate: int = 16_000) -> subprocess.Popen[bytes]:
        """Begin to play float32 [n] or [n, channels] and return at once; `wait` for the end, `terminate` to cut it."""
        self._played += 1
        path = self._folder / f"played-{self._played}.wav"
        soundfile.write(path, samples, rate, subtype="FLOAT")
        command = ["paplay", f"--device={SINK}", "--latency-msec=50", str(path)]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)

    def play(self, samples: np.ndarray, rate: int = 16_000) -> None:
        """Play float32 [n] or [n, channels] and return when it is over; raises PulseError."""
        length_s = len(samples) / rate
        with self.player(samples, rate) as player:
            try:
                failed = player.wait(timeout=length_s + 60)
            except subprocess.TimeoutExpired:
                player.kill()
                raise PulseError(f"{length_s:.0f} s of sound are not played to their end") from None
        if failed:
            raise PulseError(f"paplay failed ({failed}); is the daemon running? {self.log}")


@contextlib.contextmanager
def pulse_in(folder: Path, sources: Sequence[str] = (SOURCE,)) -> Iterator[Pulse]:
    """A daemon that runs, and is stopped in the end; raises PulseError if there is none to be had."""
    pulse = Pulse(folder, sources)
    try:
        pulse.start()
        yield pulse
    finally:
        pulse.stop()


class Monitor:
    """Records a source beside whatever else listens, and knows when each sample was there.

    Of the sink's monitor (the default) that is when it sounded, as exactly as the daemon hands it on: some 10 ms.
    """

    def __init__(self, pulse: Pulse, source: str = f"{SINK}.monitor", rate: int = 16_000) -> None:
        """Begin to record, mono."""
        self._rate = rate
        self._blocks: list[np.ndarray] = []
        self._arrived: list[tuple[float, int]] = []  # time.time(), samples so far
        options = [f"--device={source}", "--format=float32le", f"--rate={rate}", "--channels=1", "--latency-msec=10"]
        self._process = subprocess.Popen(
            ["parec", "--raw", *options], env=pulse.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        count, rest = 0, b""
        while data := os.read(self._process.stdout.fileno(), 1 << 16):
            now, data = time.time(), rest + data
            whole = len(data) // 4 * 4
            rest = data[whole:]
            self._blocks.append(np.frombuffer(data[:whole], np.float32))
            count += whole // 4
            self._arrived.append((now, count))

    @property
    def samples(self) -> np.ndarray:
        """What was recorded so far, float32 [n]."""
        return np.concatenate([np.empty(0, np.float32), *self._blocks[:]])

    def when(self, position: int) -> float:
        """time.time() of a sample: of the blocks within a second around it the one that came with the least delay."""
        near = [t - (n - position) / self._rate for t, n in self._arrived[:] if abs(n - position) <= self._rate]
        if not near:
            raise ValueError(f"sample {position} was not recorded")
        return min(near)

    def close(self) -> None:
        """Cease to record."""
        self._process.terminate()
        self._thread.join(20)
        self._process.wait(timeout=20)

"""`nano-agent audio`: which microphones there are, and what one of them hears."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from nano_agent_ros.speech.devices import InputDevice, input_devices
from nano_agent_ros.speech.levels import FLOOR_DBFS, LevelMeter, dbfs
from nano_agent_ros.speech.microphone import MicrophoneSource

DESCRIPTION = """\
Lists the input devices: index, name, host API, channels and own sample rate; * marks the system's default. The
listener's parameter audio.device takes an index or a name. Names are better: an index changes when something is plugged
in. The exact name wins, else a part of it will do, case aside, if only one device has it.

  nano-agent audio                                  what there is; --json for programs
  nano-agent audio --test 10                        the level of the default for 10 s: speak as you would to the robot
  nano-agent audio --test 10 --device "USB PnP"     of another
  nano-agent audio --test 10 --channel 0            of one channel (0 is the first), as of a microphone array

How it should look: speech peaks between -30 and -6 dBFS, and quiet is at least 20 dB below. At 0 dBFS samples are
clipped: turn the gain down (alsamixer, pavucontrol). Nothing but zeros is a muted or wrong microphone. A device that is
missing here may be in use by another program (fuser -v /dev/snd/*). With PulseAudio or PipeWire the device `default` or
`pulse` is what the sound server says: pactl list short sources, pactl set-default-source NAME, or PULSE_SOURCE=NAME.
Exit code: 0 sound was heard, 1 it was silent, clipped or lost, 2 no such device.
"""

SILENT_DBFS = -60.0
BAR = 40
SHOW_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nano-agent audio`."""
    parser.add_argument("--test", type=_seconds, metavar="SECONDS", help="listen and show the level so long")
    parser.add_argument("--device", help="index, name or part of a name (default: the system's default)")
    parser.add_argument("--channel", type=int, metavar="N", help="one channel; 0: the first (default: average of all)")
    parser.add_argument("--json", action="store_true", help="a list of devices, or the result of the test, as JSON")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.0 < seconds <= 86_400.0:
        raise argparse.ArgumentTypeError("more than 0, and a day at most")
    return seconds


def run(args: argparse.Namespace) -> int:
    """List, or test; returns the exit code."""
    if args.test is not None:
        return _test(args)
    devices = input_devices()
    if args.json:
        print(json.dumps([asdict(device) for device in devices], ensure_ascii=False))
    elif devices:
        print(table(devices))
    else:
        print("no input device; is a microphone connected, and not in use by another program?")
    return 0


def table(devices: list[InputDevice]) -> str:
    """The devices, one a line."""
    rows = [("", "index", "name", "host API", "channels", "rate (Hz)")]
    for d in devices:
        rows.append(("*" if d.default else "", str(d.index), d.name, d.host_api, str(d.channels), str(d.sample_rate)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _test(args: argparse.Namespace) -> int:
    if args.channel is not None and args.channel < 0:
        args.channel = None
    source = MicrophoneSource(
        args.device, channel=args.channel, on_trouble=lambda text: print(f"\n{text or 'it is back'}", file=sys.stderr)
    )
    source.levels = LevelMeter(window_s=args.test + 60.0)
    now = LevelMeter(window_s=SHOW_S)
    live = sys.stderr.isatty() and not args.json
    shown = time.monotonic()
    try:
        until = time.monotonic() + args.test
        for chunk in source.chunks():
            now.add(chunk)
            if live and time.monotonic() - shown >= SHOW_S:
                shown = time.monotonic()
                print(f"\r{meter(now, source.levels)}", end="", file=sys.stderr, flush=True)
            if time.monotonic() >= until:
                break
    except KeyboardInterrupt:
        pass
    finally:
        if live:
            print(file=sys.stderr)
        source.close()
    level = source.levels.recent()
    problem = level.problem
    if dbfs(level.peak) < SILENT_DBFS:
        problem = "silent: is it muted, or the wrong microphone?"
    if source.times_lost:
        problem = f"lost {source.times_lost} times"
    result = source.details() | {
        "seconds": round(level.seconds, 2),
        "rms_dbfs": round(dbfs(level.rms), 1),
        "peak_dbfs": round(dbfs(level.peak), 1),
        "clipped_percent": round(100 * level.clipped, 3),
        "problem": problem,
    }
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        print("\n".join(f"{key:16} {value}" for key, value in result.items() if value != ""))
    return 1 if problem else 0


def meter(now: LevelMeter, raw: LevelMeter) -> str:
    """A line of the live meter: a bar for the RMS, a mark at the peak, numbers, and a warning."""
    level = now.recent()
    filled, mark = (round(BAR * (dbfs(x) - FLOOR_DBFS / 2) / (-FLOOR_DBFS / 2)) for x in (level.rms, level.peak))
    bar = "".join("#" if i < filled else "|" if i == max(mark - 1, 0) else "." for i in range(BAR))
    warning = "CLIPPED" if raw.recent().clipped > 0.0 else ""
    return f"-60 [{bar}] 0 dBFS  RMS {dbfs(level.rms):6.1f}  peak {dbfs(level.peak):6.1f}  {warning:8}"

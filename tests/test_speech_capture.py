"""Claims about sound before anybody listens: rates, channels, levels, the choice of a device, pieces from a topic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_agent_ros.speech import Endpointer, SpeechError
from nano_agent_ros.speech.audio import Converter
from nano_agent_ros.speech.command import table
from nano_agent_ros.speech.devices import AmbiguousDevice, InputDevice, choose, find_again
from nano_agent_ros.speech.levels import MUTED_S, LevelMeter, dbfs
from nano_agent_ros.speech.pcm import ENCODINGS, BadAudio, Piece, decode, encode_s16
from nano_agent_ros.speech.topic_audio import PieceSource

RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)


def tone(frequency: float, rate: int, seconds: float, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def converted(frames: np.ndarray, rate: int, channel: int | None = None) -> np.ndarray:
    """What comes out of a Converter that is fed in chunks of 0.1 s."""
    converter, chunks = Converter(rate, channel), np.array_split(frames, 10)
    return np.concatenate([converter.push(chunk, last=i == 9) for i, chunk in enumerate(chunks)])


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Amplitude at each Hz, of the second that is given (a flat-top window: a peak has its true height)."""
    n = np.arange(16_000) / 16_000
    window = 1 - 1.93 * np.cos(2 * np.pi * n) + 1.29 * np.cos(4 * np.pi * n) - 0.388 * np.cos(6 * np.pi * n)
    window += 0.032 * np.cos(8 * np.pi * n)
    return np.abs(np.fft.rfft(samples * window)) / 8_000


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("rate", RATES)
def test_a_tone_of_1_khz_stays_one_at_every_rate_and_channel_count(rate, channels):
    frames = np.repeat(tone(1000, rate, 1.2)[:, None], channels, axis=1)
    out = converted(frames, rate)
    assert len(out) == pytest.approx(1.2 * 16_000, abs=1)
    heard = spectrum(out[1_600:17_600])
    assert heard.argmax() == 1000 and heard[1000] == pytest.approx(0.5, rel=0.01)
    rest = np.concatenate([heard[:990], heard[1011:]])
    assert dbfs(rest.max()) < -80.0


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
def test_what_is_above_8_khz_does_not_come_back_as_something_lower(rate):
    frames = tone(9_500, rate, 1.2)[:, None]  # without a filter it would be heard at 6.5 kHz
    assert dbfs(np.abs(converted(frames, rate)[1_600:17_600]).max()) < -80.0


@given(st.integers(1, 8), st.data())
def test_one_channel_of_an_array_is_that_channel_alone(channels, data):
    channel = data.draw(st.integers(0, channels - 1))
    frames = np.repeat(tone(3000, 48_000, 0.3)[:, None], channels, axis=1)
    frames[:, channel] = tone(1000, 48_000, 0.3)
    alone = converted(frames, 48_000, channel)
    assert np.array_equal(alone, converted(tone(1000, 48_000, 0.3)[:, None], 48_000))


def test_the_meter_knows_the_last_seconds_and_the_clipped_share():
    meter = LevelMeter(window_s=1.0)
    meter.add(tone(1000, 16_000, 2.0, amplitude=0.9))
    meter.add(tone(1000, 48_000, 1.0, amplitude=0.1)[:, None], 48_000)
    level = meter.recent()
    assert level.seconds == pytest.approx(1.0) and dbfs(level.peak) == pytest.approx(-20.0, abs=0.1)
    assert dbfs(level.rms) == pytest.approx(-23.0, abs=0.1) and not level.problem
    assert meter.peak == pytest.approx(0.9, abs=0.001) and meter.seconds == pytest.approx(3.0)
    meter.add(np.clip(tone(997, 16_000, 1.0, amplitude=2.0), -1, 1))
    level = meter.recent()
    assert level.clipped == pytest.approx(2 / 3, abs=0.01) and "gain down" in level.problem  # beyond half its height


def test_only_zeros_are_a_muted_microphone_but_not_at_once():
    meter = LevelMeter()
    meter.add(np.zeros(round(16_000 * (MUTED_S - 1)), np.float32))
    assert not meter.recent().problem
    meter.add(np.zeros(32_000, np.float32))
    assert "muted" in meter.recent().problem
    meter.add(tone(1000, 16_000, 0.1))
    assert not meter.recent().problem


def test_samples_that_are_no_numbers_reach_neither_meter_nor_filter():
    frames = np.array([[np.nan, 0.5], [np.inf, 0.5], [0.5, 0.5], [-np.inf, 0.0]], np.float32)
    meter = LevelMeter()
    meter.add(frames)
    assert meter.peak == 0.5
    assert np.isfinite(converted(np.repeat(frames, 400, axis=0), 48_000)).all()


def device(index: int, name: str, api: str = "ALSA", default: bool = False) -> InputDevice:
    return InputDevice(index, name, api, 2, 48_000, default)


DEVICES = [
    device(0, "USB PnP Sound Device: Audio (hw:1,0)"),
    device(2, "USB PnP Sound Device: Audio (hw:2,0)"),
    device(3, "Headset"),
    device(4, "Headset Pro"),
    device(7, "default", default=True),
    device(8, "Array", "ALSA"),
    device(9, "Array", "JACK Audio Connection Kit"),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 7), ("", 7), (" ", 7), (3, 3), ("4", 4), ("Headset", 3), ("headset", 3), ("PRO", 4),
     ("Array, ALSA", 8), ("array, jack", 9), ("hw:2", 2), ("def", 7)],
)  # fmt: skip
def test_a_device_is_meant_by_index_or_name(wanted, index):
    assert choose(DEVICES, wanted).index == index


@pytest.mark.parametrize("wanted", ["usb", "USB PnP Sound Device: Audio", "Array", "head"])
def test_an_ambiguous_name_is_refused_with_the_candidates(wanted):
    with pytest.raises(AmbiguousDevice, match="ambiguous") as refusal:
        choose(DEVICES, wanted)
    candidates = [d for d in DEVICES if wanted.casefold() in d.name.casefold()]
    assert len(candidates) == 2 and all(f"{d.index}: {d.full_name}" in str(refusal.value) for d in candidates)


@pytest.mark.parametrize("wanted", ["nothing", 1, "99"])
def test_a_device_that_is_not_there_is_an_error_that_lists_the_others(wanted):
    with pytest.raises(SpeechError, match="choose one of .*Headset Pro"):
        choose(DEVICES, wanted)
    with pytest.raises(SpeechError, match="connect one"):
        choose([], wanted)


def test_a_device_is_found_again_under_another_index_and_card_number():
    lost = device(5, "Jabra 510: USB Audio (hw:3,0)")
    back = device(1, "Jabra 510: USB Audio (hw:1,0)")
    assert find_again([*DEVICES, back], lost) == back
    same = device(6, lost.name)
    assert find_again([back, same], lost) == same
    with pytest.raises(AmbiguousDevice):
        find_again([back, device(2, "Jabra 510: USB Audio (hw:2,0)")], lost)
    with pytest.raises(SpeechError, match="no input device"):
        find_again(DEVICES, lost)


def test_the_list_marks_the_default_and_aligns():
    lines = table(DEVICES).splitlines()
    assert [line for line in lines if line.startswith("*")] == [lines[5]] and "default" in lines[5]
    assert len({line.index("ALSA") for line in lines[1:7]}) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_read_as_it_was_written(encoding):
    wanted = np.array([[0.0, 0.5], [-0.5, 0.25], [-1.0, 0.75]], np.float32)
    scaled = wanted.ravel().astype(np.float64)
    data = {
        "S16LE": lambda: (scaled * 2**15).astype("<i2").tobytes(),
        "S24LE": lambda: b"".join(int(x * 2**23).to_bytes(3, "little", signed=True) for x in scaled),
        "S32LE": lambda: (scaled * 2**31).astype("<i4").tobytes(),
        "F32LE": lambda: scaled.astype("<f4").tobytes(),
        "U8": lambda: (scaled * 128 + 128).astype(np.uint8).tobytes(),
    }[encoding]()
    assert np.array_equal(decode(data, encoding, 16_000, 2), wanted)


@given(st.binary(max_size=64), st.sampled_from([*ENCODINGS, "MP3", ""]), st.integers(-1, 10**6), st.integers(-1, 300))
def test_bytes_of_any_kind_are_frames_or_a_refusal(data, encoding, rate, channels):
    try:
        frames = decode(data, encoding, rate, channels)
    except BadAudio as refusal:
        assert str(refusal)
    else:
        assert frames.ndim == 2 and frames.shape[1] == channels and frames.size


def listen(source: PieceSource) -> tuple[list[np.ndarray], threading.Thread]:
    chunks: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: chunks.extend(source.chunks()), daemon=True)
    thread.start()
    return chunks, thread


def wait_for(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def run(pieces: list[Callable[[], Piece]], channel: int | None = None) -> tuple[PieceSource, list[np.ndarray]]:
    """Everything that a source makes of pieces."""
    source = PieceSource("test", channel=channel, buffer_pieces=len(pieces) + 2)
    for piece in pieces:
        source.push(piece)
    source._queue.put(None)  # ends `chunks` after what is there
    return source, list(source.chunks())


def piece(position: int | None, seconds: float = 0.1, rate: int = 16_000, channels: int = 1, at: float = 0.0):
    frames = np.repeat(tone(1000, rate, seconds)[:, None], channels, axis=1)
    return lambda: Piece(frames, rate, at, position)


def test_pieces_that_follow_on_come_out_whole():
    source, chunks = run([piece(i * 1600) for i in range(10)])
    assert sum(map(len, chunks)) == 16_000 and all(map(len, chunks))
    assert source.details()["gaps"] == 0 and source.details()["sample_rate_hz"] == 16_000


def test_a_short_gap_becomes_silence_and_a_long_one_cuts():
    source, chunks = run([piece(0), piece(3200), piece(48_000)])
    assert [len(chunk) for chunk in chunks] == [1600, 1600, 1600, 0, 1600]
    assert not chunks[1].any() and source.bridged_s == pytest.approx(0.1) and source.gaps == 1


def test_time_that_jumps_cuts_and_time_that_jitters_does_not():
    stamps = [100.0, 100.13, 100.19, 100.3, 105.0, 50.0, 50.1]
    source, chunks = run([piece(None, at=at) for at in stamps])
    assert [len(chunk) for chunk in chunks] == [1600] * 4 + [0, 1600, 0, 1600, 1600]
    assert (source.gaps, source.jumps) == (1, 1)
    restarted, chunks = run([piece(80_000), piece(0), piece(1600)])
    assert [len(chunk) for chunk in chunks] == [1600, 0, 1600, 1600] and restarted.jumps == 1


def test_another_rate_or_channel_count_goes_on_without_a_cut():
    source, chunks = run([piece(None, 0.5, 48_000, 2), piece(None, 0.5, 16_000, 1), piece(None, 0.5, 44_100, 8)])
    assert all(map(len, chunks)) and source.changes == 2
    assert sum(map(len, chunks)) == pytest.approx(24_000, abs=1000)  # the last filter is not drained
    heard = spectrum(np.concatenate(chunks)[:16_000])
    assert heard.argmax() == 1000


def test_a_channel_that_is_not_there_is_refused():
    source, chunks = run([piece(0, channels=2)], channel=2)
    assert not chunks and source.refused == 1 and "no channel 2" in source.trouble
    source, chunks = run([piece(0, channels=2)], channel=1)
    assert sum(map(len, chunks)) == 1600 and not source.trouble


def broken() -> Piece:
    raise BadAudio("encoding 'MP3' is unknown")


PIECES = st.one_of(
    st.just(broken),
    st.builds(
        piece,
        st.one_of(st.none(), st.integers(0, 2**64 - 1)),
        st.sampled_from([0.001, 0.03, 0.2]),
        st.sampled_from([4_000, 11_025, 16_000, 384_000]),
        st.integers(1, 3),
        st.floats(-1e9, 1e10),
    ),
)


@settings(max_examples=50)
@given(st.lists(PIECES, max_size=12), st.sampled_from([None, 0, 1]))
def test_whatever_comes_the_listener_gets_sound_it_can_use(pieces, channel):
    source, chunks = run(pieces, channel)
    endpointer = Endpointer(vad=lambda samples: np.zeros(len(samples) // 512))
    for chunk in chunks:
        assert chunk.dtype == np.float32 and np.isfinite(chunk).all() and np.all(np.abs(chunk) <= 1.0)
        assert endpointer.feed(chunk) == []
    assert source.refused >= sum(p is broken for p in pieces)


def test_silence_and_nonsense_are_told_once_and_over_with_the_next_sound():
    told: list[str] = []
    source = PieceSource("topic /audio", stall_s=0.2, on_trouble=told.append, missing=lambda: "nobody publishes it")
    chunks, thread = listen(source)
    wait_for(lambda: told, "a word about silence")
    assert "topic /audio" in told[0] and "nobody publishes it" in told[0]
    for _ in range(20):
        source.push(broken)
    wait_for(lambda: source.refused == 20 and "MP3" in source.trouble, "refusals")
    until = time.monotonic() + 60
    position = 0
    while source.trouble and time.monotonic() < until:
        source.push(piece(position))
        position += 1600
        time.sleep(0.02)
    wait_for(lambda: len(told) >= 2, "the end of trouble")
    assert told[1] == ""
    source.close()
    thread.join(60)
    assert not thread.is_alive() and len(chunks[0]) == 0


def test_an_utterance_that_sound_is_missing_of_is_marked_and_said_once():
    endpointer = Endpointer(vad=lambda samples: (np.abs(samples.reshape(-1, 512)).max(axis=1) > 0.1).astype(float))
    speech, silence = tone(300, 16_000, 1.024), np.zeros(16_384, np.float32)
    assert endpointer.feed(silence) == [] and endpointer.feed(speech) == []
    (cut,) = endpointer.flush(lost=True)
    assert cut.lost and cut.duration_s == pytest.approx(1.324, abs=0.04)
    assert endpointer.flush(lost=True) == [] and endpointer.feed(silence) == []
    endpointer.feed(speech)
    endpointer.feed(silence[:4096])  # a pause that is settled: nothing of it is missing
    (whole,) = endpointer.flush(lost=True)
    assert not whole.lost and whole.start_s >= cut.end_s


def test_samples_survive_the_way_over_a_topic():
    samples = tone(1000, 16_000, 0.1)
    back = decode(encode_s16(samples), "S16LE", 16_000, 1)
    assert np.abs(back[:, 0] - samples).max() < 2e-4

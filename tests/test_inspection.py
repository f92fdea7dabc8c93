"""Claims about inspection: pictures are read or refused, defects found and nothing else, reports kept in bounds."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import inspection as inspection_bench
from bench import inspection_scenes as scenes
from nano_agent_ros import cli
from nano_agent_ros.agent import Model
from nano_agent_ros.decode import NEMOTRON_3
from nano_agent_ros.errors import ConfigError
from nano_agent_ros.inspection import store as store_module
from nano_agent_ros.inspection.book import ReportBook, Spoken
from nano_agent_ros.inspection.describe import ByModel, Template, sentence_grammar
from nano_agent_ros.inspection.detections import findings_of
from nano_agent_ros.inspection.detector import Detector, Inspection
from nano_agent_ros.inspection.finding import Box, Candidate, Finding
from nano_agent_ros.inspection.golden import MAX_SAMPLES, Goldens
from nano_agent_ros.inspection.images import ENCODINGS, ImageError, from_compressed, from_raw, to_file
from nano_agent_ros.inspection.inspector import Inspector
from nano_agent_ros.inspection.policy import Policy, Severity
from nano_agent_ros.inspection.position import contradicts, in_words
from nano_agent_ros.inspection.report import Evidence, Report, Source, Status
from nano_agent_ros.inspection.store import REPORTS, Store, StoreError
from nano_agent_ros.inspection.tracking import Seen, Tracker
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills

SITE = Site.load("warehouse")
SKILLS = Skills.load(default_skills())
TYPES = next(a.values for a in SKILLS["report_defect"].arguments if a.name == "defect_type")
POLICY = Policy.load(None, TYPES, SITE.locations)
TEMPLATE = Template(SITE)


# Pictures


def picture(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if not name.endswith("16") and "16" not in name])
@pytest.mark.parametrize("padding", [0, 7])
def test_every_encoding_of_8_bits_comes_out_as_blue_green_red(encoding, padding):
    image = picture()
    channels = ENCODINGS[encoding][1]
    if channels == 1:
        image = np.repeat(image[:, :, :1], 3, axis=2)
    as_sent = {
        "mono8": image[:, :, :1], "8UC1": image[:, :, :1], "rgb8": image[:, :, ::-1], "bgr8": image, "8UC3": image,
        "rgba8": np.dstack([image[:, :, ::-1], image[:, :, :1]]), "bgra8": np.dstack([image, image[:, :, :1]]),
        "8UC4": np.dstack([image, image[:, :, :1]]),
    }[encoding]  # fmt: skip
    rows = as_sent.reshape(40, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    step = padded.shape[1]
    assert np.array_equal(from_raw(encoding, 40, 50, step, False, padded.tobytes()), image)
    without_last_padding = padded.tobytes()[: len(padded.tobytes()) - padding]
    assert np.array_equal(from_raw(encoding, 40, 50, step, False, without_last_padding), image)


@pytest.mark.parametrize("big_endian", [False, True])
def test_pictures_of_16_bits_are_stretched_whatever_their_byte_order(big_endian):
    ramp = np.tile(np.linspace(1000, 3000, 50).astype(">u2" if big_endian else "<u2"), (40, 1))
    frame = from_raw("16UC1", 40, 50, 100, big_endian, ramp.tobytes())
    assert (frame[:, 0] == 0).all() and (frame[:, -1] == 255).all()
    assert (np.diff(frame[0, :, 0].astype(int)) >= 0).all() and abs(int(frame[0, 25, 0]) - 130) < 5


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "size", "words"),
    [
        ("yuv422", 40, 50, 100, 4000, "yuv422"),
        ("rgb8", 0, 0, 0, 0, "empty"),
        ("rgb8", 40, 50, 149, 40 * 150, "step 149"),
        ("rgb8", 40, 50, 150, 40 * 150 - 1, "too few"),
        ("mono8", 8, 8, 8, 64, "at least"),
        ("mono8", 100_000, 100_000, 100_000, 10, "at most"),
    ],
)
def test_a_picture_that_makes_no_sense_is_refused_with_the_reason(encoding, height, width, step, size, words):
    with pytest.raises(ImageError, match=words):
        from_raw(encoding, height, width, step, False, bytes(size))


def test_files_are_decoded_and_what_is_cut_off_is_refused():
    frame = cv2.GaussianBlur(picture(120, 160), (0, 0), 3)
    assert np.array_equal(from_compressed(to_file(frame, ".png")), frame)
    assert np.abs(from_compressed(to_file(frame, ".jpg", 95)).astype(int) - frame).mean() < 3
    grey16 = cv2.imencode(".png", np.tile(np.linspace(0, 4000, 160).astype(np.uint16), (120, 1)))[1].tobytes()
    assert from_compressed(grey16)[0, -1, 0] == 255
    for content in (to_file(frame, ".png"), to_file(frame, ".jpg")):
        for keep in (0.1, 0.5, 0.97):
            with pytest.raises(ImageError):
                from_compressed(content[: int(keep * len(content))])


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), kind=st.sampled_from([".png", ".jpg"]))
def test_a_damaged_file_is_a_picture_or_an_error_of_ours(at, value, kind):
    content = bytearray(to_file(picture(), kind))
    content[at % len(content)] = value
    try:
        frame = from_compressed(content)
    except ImageError:
        return
    assert frame.ndim == 3 and frame.dtype == np.uint8


# The detector


def hit(result: Inspection, where: np.ndarray) -> Finding | None:
    return scenes.found_at(result.findings, where)


@pytest.fixture(scope="module")
def outcomes() -> tuple[list[Inspection], list[tuple[str, Finding | None]]]:
    """What 12 parts show without a defect and with each kind, one golden sample each, taken by another camera pose."""
    clean, spoiled = [], []
    for seed in range(100, 112):
        good = scenes.part(seed)
        detector = Detector([scenes.taken(good, seed + 500, scenes.STRAIGHT)])
        clean.append(detector.inspect(scenes.taken(good, seed)))
        for kind in scenes.DEFECTS:
            bad, mask = scenes.spoiled(good, kind, seed)
            found = detector.inspect(scenes.taken(bad, seed))
            spoiled.append((kind, hit(found, scenes.where(mask, seed))))
    return clean, spoiled


def test_nine_of_ten_defects_are_found_and_one_good_part_in_six_at_most_alarms(outcomes):
    clean, spoiled = outcomes
    assert sum(found is not None for _, found in spoiled) >= 0.9 * len(spoiled)
    assert sum(bool(result.findings) for result in clean) <= len(clean) / 6
    assert not any(result.problem for result in clean)


def test_the_type_is_right_at_least_as_often_as_the_confidence_says(outcomes):
    named = [(kind, found.best) for kind, found in outcomes[1] if found is not None]
    right = np.mean([best.defect_type == kind for kind, best in named])
    assert right >= 0.7 and right + 0.1 >= np.mean([best.confidence for _, best in named])
    assert all(best.confidence <= 0.8 for _, best in named)


def test_the_benchmark_tells_what_is_found_under_which_conditions(tmp_path, capsys):
    inspection_bench.main(["--parts", "1", "--conditions", "as usual", "--out", str(tmp_path / "out.json")])
    rows = {row["name"]: row["value"] for row in json.loads((tmp_path / "out.json").read_text())}
    assert rows["as usual: scratch found"] == 100.0 and rows["as usual: good parts with an alarm"] == 0.0
    assert "as usual: missing found" in capsys.readouterr().out


def test_another_thing_is_not_compared():
    detector = Detector([scenes.part(1)])
    for other in (scenes.part(2), np.full((*scenes.SIZE, 3), 128, np.uint8), picture(*scenes.SIZE)):
        result = detector.inspect(other)
        assert result.problem and not result.findings


def test_what_one_golden_sample_shows_is_no_defect():
    good = scenes.part(3)
    changed, mask = scenes.spoiled(good, "missing", 3)
    assert hit(Detector([good]).inspect(scenes.taken(changed, 3)), scenes.where(mask, 3))
    both = Detector([good, scenes.taken(changed, 77)])
    assert not hit(both.inspect(scenes.taken(changed, 3)), scenes.where(mask, 3))
    assert not both.inspect(scenes.taken(good, 3)).findings


def test_nothing_is_found_where_the_mask_is_black():
    good = scenes.part(4)
    bad, where = scenes.spoiled(good, "dirty", 4)
    mask = np.repeat(np.where(cv2.dilate(where, np.ones((41, 41))) > 0, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    assert Detector([good]).inspect(bad).findings
    assert not Detector([good], mask=mask).inspect(bad).findings


def test_boxes_are_those_of_the_picture_and_places_those_of_the_golden_sample():
    good = scenes.part(5)
    bad, mask = scenes.spoiled(good, "missing", 5)
    large = cv2.resize(bad, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    ys, xs = np.nonzero(mask)
    middle = (xs.mean() / scenes.SIZE[1], ys.mean() / scenes.SIZE[0])
    for picture, factor in ((bad, 1), (large, 2)):
        finding = max(Detector([good]).inspect(picture).findings, key=lambda f: f.area)
        assert np.allclose(np.array(finding.box.centre) / factor, (xs.mean(), ys.mean()), atol=6)
        assert np.allclose(finding.place, middle, atol=0.02)
        assert np.allclose(finding.anchor.centre, (xs.mean(), ys.mean()), atol=6)


def test_golden_samples_are_kept_by_location_and_bounded(tmp_path):
    goldens = Goldens(tmp_path / "golden")
    assert goldens.locations() == () and goldens.load("rack_7") == ()
    frame = picture()
    assert goldens.add("rack_7", frame).name == "001.png" and goldens.add("rack_7", frame).name == "002.png"
    assert goldens.locations() == ("rack_7",) and np.array_equal(goldens.load("rack_7")[0], frame)
    (tmp_path / "golden" / "rack_7" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="broken.png"):
        goldens.load("rack_7")
    for bad in ("../rack_7", "", "Rack 7", "/etc"):
        with pytest.raises(ConfigError, match="no location id"):
            goldens.add(bad, frame)
    for _ in range(MAX_SAMPLES - 3):
        goldens.add("rack_7", frame)
    with pytest.raises(ConfigError, match="delete one"):
        goldens.add("rack_7", frame)


# Merging


def finding(x: float = 100, y: float = 100, kind: str = "scratch", area: float = 0.01, place=(0.2, 0.8)) -> Finding:
    box = Box(x, y, 40, 30)
    return Finding(box, box, place, (Candidate(kind, 0.6), Candidate("other", 0.2)), area)


def seen(kind: str = "scratch", area: float = 0.01, place: tuple[float, float] = (0.2, 0.8)) -> Seen:
    return Seen(1, finding(kind=kind, area=area, place=place), 3, 0.0, 1.0)


def test_a_finding_counts_once_it_has_stayed():
    tracker = Tracker(min_pictures=3, forget_s=1.0)
    assert not tracker.update([finding()], 0.0)
    assert not tracker.update([finding(x=300)], 0.2)  # another place
    assert not tracker.update([finding(x=103)], 0.4)
    (once,) = tracker.update([finding(x=105)], 0.6)
    assert once.pictures == 3 and once.finding.best.defect_type == "scratch"
    assert not tracker.update([finding(x=105)], 0.8)  # it is told once
    assert not tracker.update([finding(x=105)], 5.0)  # and after a while it would be another


def test_types_are_those_most_pictures_speak_for():
    tracker = Tracker(min_pictures=3)
    tracker.update([finding(kind="dirty")], 0.0)
    tracker.update([finding(kind="scratch")], 0.1)
    (result,) = tracker.update([finding(kind="scratch")], 0.2)
    assert [c.defect_type for c in result.finding.candidates][0] == "scratch"
    assert result.finding.best.confidence == pytest.approx(0.4)


def test_words_for_places_are_understood_again():
    assert in_words((0.1, 0.1)) == "upper left" and in_words((0.5, 0.9)) == "lower middle"
    assert in_words((0.5, 0.5)) == "centre" and in_words((0.9, 0.5)) == "middle right"
    assert contradicts("a dent, bottom left", (0.9, 0.9)) and contradicts("on the top shelf", (0.5, 0.9))
    assert not contradicts("a dent, bottom left", (0.1, 0.8)) and not contradicts("a dent", (0.9, 0.9))


def spoken(
    words: str = "there's a dent on rack 7, bottom left", kind: str = "dent", at: float = 1000.0, **other
) -> Spoken:
    fields = {"location_id": "rack_7", "object_id": "", "severity": Severity.UNKNOWN, "confidence": 0.9} | other
    return Spoken(uuid4(), at, defect_type=kind, words=words, **fields)


def book(window_s: float = 600.0, known=()) -> ReportBook:
    return ReportBook(POLICY, TEMPLATE, window_s, known)


def test_a_defect_seen_again_is_the_same_report_confirmed():
    reports = book()
    first = reports.seen(seen(), "rack_7", None, 1000.0)
    reports.keep(replace(first.report, evidence=(Evidence("a.jpg", Box(0, 0, 1, 1)),)))
    again = reports.seen(seen(place=(0.22, 0.79)), "rack_7", None, 90_000.0)
    assert first.report.status is Status.OPEN and first.picture and not again.picture
    assert (again.report.report_id, again.report.status, again.report.times_seen) == (
        first.report.report_id, Status.CONFIRMED, 2,
    )  # fmt: skip
    elsewhere = reports.seen(seen(place=(0.8, 0.2)), "rack_7", None, 90_001.0)
    other_rack = reports.seen(seen(), "rack_6", None, 90_002.0)
    assert len({first.report.report_id, elsewhere.report.report_id, other_rack.report.report_id}) == 3


def test_what_a_camera_saw_and_a_person_tells_is_one_report_under_the_first_id():
    reports = book()
    camera = reports.seen(seen("dirty", area=0.02), "rack_7", None, 900.0).report
    told = spoken(severity=Severity.CRITICAL)
    change = reports.spoken(told)
    joined = change.report
    assert joined.report_id == camera.report_id and joined.source is Source.BOTH
    assert joined.status is Status.CONFIRMED and joined.defect_type == "dent"  # a person knows better what it is
    assert joined.severity is Severity.CRITICAL and joined.confidence > 0.9 and told.words in joined.description
    assert change.dismissed.report_id == told.report_id and change.dismissed.status is Status.DISMISSED
    assert str(camera.report_id) in change.dismissed.recommended_action
    assert reports.spoken(told) is None  # the same message again


def test_what_a_person_told_and_a_camera_then_sees_is_one_report_under_the_first_id():
    reports = book()
    told = spoken()
    assert reports.spoken(told).report.source is Source.SPOKEN
    change = reports.seen(seen("dirty"), "rack_7", (1.0, 2.0, 0.0), 1100.0)
    assert change.report.report_id == told.report_id and change.report.source is Source.BOTH
    assert change.report.defect_type == "dent" and change.picture and change.dismissed is None


def test_what_the_camera_still_sees_is_what_a_person_means_however_long_ago_it_was_reported(tmp_path):
    good = scenes.part(8)
    bad = scenes.spoiled(good, "dirty", 8)[0]
    goldens = Goldens(tmp_path / "golden")
    goldens.add("rack_7", good)
    inspector = Inspector(
        goldens,
        Store(tmp_path / "store", 10**8, 1e12),
        POLICY,
        TEMPLATE,
        min_pictures=2,
        forget_s=3000.0,
        window_s=60.0,
    )
    changes = [c for at in (0.0, 1.0, 2.0, 1000.0) for c in inspector.look(bad, "rack_7", None, at).changes]
    assert len(changes) == 1 and changes[0].report.evidence
    joined = inspector.told(spoken("it is dirty here", "dirty", 1030.0))
    assert joined.report.report_id == changes[0].report.report_id and joined.dismissed is not None
    assert inspector.told(spoken("it is dirty here", "dirty", 2000.0)).dismissed is None
    assert inspector.look(bad, "rack_6", None, 2001.0).problem and inspector.look(bad, "", None, 2002.0).problem


@pytest.mark.parametrize(
    "told",
    [
        spoken(at=5000.0),
        spoken(location_id="rack_6"),
        spoken(location_id=""),
        spoken(kind="leak", words="something is leaking on rack 7"),
        spoken(words="there's a dent on rack 7, top right"),
    ],
    ids=["later", "elsewhere", "nowhere", "another type", "the other side"],
)
def test_what_is_not_the_same_stays_apart(told):
    reports = book()
    camera = reports.seen(seen("missing"), "rack_7", None, 900.0)
    change = reports.spoken(told)
    assert change.dismissed is None and change.report.source is Source.SPOKEN
    assert reports.reports[camera.report.report_id].source is Source.VISION


def test_the_policy_judges_by_type_size_and_place(tmp_path):
    assert POLICY.judge("crack", 2.0, "rack_7")[0] is Severity.CRITICAL
    assert POLICY.judge("crack", 0.1, "rack_7")[0] is Severity.MAJOR
    assert POLICY.judge("crack", None, "rack_7")[0] is Severity.MAJOR  # told, not measured
    assert POLICY.judge("scratch", 0.1, "rack_7")[0] is Severity.MINOR
    assert POLICY.judge("scratch", 6.0, "rack_7")[0] is Severity.MAJOR
    path = tmp_path / "policy.yaml"
    path.write_text("severity: [{locations: [dock_1], severity: critical, action: Close it.}, {severity: minor}]")
    mine = Policy.load(path, TYPES, SITE.locations)
    assert mine.judge("dirty", 0.1, "dock_1") == (Severity.CRITICAL, "Close it.")
    assert mine.judge("dirty", 0.1, "dock_2") == (Severity.MINOR, "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("severity: [{severity: awful}]", "minor, major or critical"),
        ("severity: [{severity: minor, types: [haunted]}]", "haunted"),
        ("severity: [{severity: minor, locations: [dock_99]}]", "dock_99"),
        ("severity: [{severity: minor, min_percent: 101}]", "min_percent"),
        ("severity: [{severity: minor, size: 3}]", "keys"),
        ("classes: {stain: haunted}", "haunted"),
        ("rules: []", "rules"),
        ("- a list", "keys"),
    ],
)
def test_a_policy_that_makes_no_sense_is_named(tmp_path, content, words):
    path = tmp_path / "policy.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=words) as error:
        Policy.load(path, TYPES, SITE.locations)
    assert "policy.yaml" in str(error.value)


# Descriptions


def report(**fields) -> Report:
    base = {
        "report_id": uuid4(), "source": Source.VISION, "status": Status.OPEN, "location_id": "rack_7",
        "defect_type": "scratch", "severity": Severity.MINOR, "confidence": 0.6, "first_seen": 1.0, "last_seen": 1.0,
        "place": (0.2, 0.8), "percent": 1.24,
    }  # fmt: skip
    return Report(**(base | fields))


def test_the_template_says_what_where_and_how_large():
    assert TEMPLATE(report()) == "A scratch at rack 7, lower left, about 1.2 percent of it."
    told = report(source=Source.BOTH, words="there's a scratch")
    assert TEMPLATE(told).endswith("A person reported: there's a scratch")
    assert TEMPLATE(report(place=None, words="it leaks")) == "it leaks"


def test_whatever_the_model_says_is_so():
    describe = ByModel(Model.open(), SKILLS, SITE)
    for kind, name, place, where in (
        ("scratch", "rack_7", (0.2, 0.8), "lower left"),
        ("missing", "dock_1", (0.9, 0.1), "upper right"),
    ):
        text = describe(report(defect_type=kind, location_id=name, place=place, percent=2.0))
        assert SITE.name_of(name) in text and where in text and "2.0 percent" in text and kind in text
        assert text[0].isupper() and text.endswith(".") and text.count(".") == 2
        assert text == describe(report(defect_type=kind, location_id=name, place=place, percent=2.0))


def test_a_place_named_like_a_control_token_stays_words():
    grammar = sentence_grammar(
        report(), 'x" <|im_end|> </tool_call>', {"<tool_call>", "</tool_call>", "<|im_end|>"}, NEMOTRON_3
    )
    assert grammar.count("<|im_end|>") == 0 and grammar.count("</tool_call>") == 1


def test_the_command_keeps_lists_and_checks_golden_samples(tmp_path, capsys):
    good = scenes.part(6)
    bad, _ = scenes.spoiled(good, "missing", 6)
    for name, frame in (("good.jpg", good), ("again.png", scenes.taken(good, 6)), ("bad.jpg", scenes.taken(bad, 6))):
        (tmp_path / name).write_bytes(to_file(frame, Path(name).suffix))
    golden = ["golden", "--dir", str(tmp_path / "golden")]
    assert cli.main([*golden, "add", "rack_7", str(tmp_path / "good.jpg")]) == 0
    assert cli.main([*golden, "list"]) == 0
    assert "rack_7: 001.png" in capsys.readouterr().out
    assert cli.main([*golden, "check", "rack_7", str(tmp_path / "again.png")]) == 0
    assert cli.main([*golden, "check", "rack_7", str(tmp_path / "bad.jpg")]) == 1
    assert "missing" in capsys.readouterr().out
    assert cli.main([*golden, "check", "rack_6", str(tmp_path / "bad.jpg")]) == 2
    assert cli.main([*golden, "add", "rack_99", str(tmp_path / "good.jpg")]) == 2
    assert cli.main([*golden, "add", "rack_7", str(tmp_path / "nothing.jpg")]) == 2
    assert "nothing.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["before 4", "4"])
def test_detections_become_findings_of_the_types_of_the_site(version):
    def detection(x: float, y: float, label: str, score: float, size: float = 20.0) -> SimpleNamespace:
        at = SimpleNamespace(x=x, y=y)
        centre = SimpleNamespace(position=at, theta=0.0) if version == "4" else SimpleNamespace(x=x, y=y, theta=0.0)
        key = {"class_id": label} if version == "4" else {"id": label}
        hypothesis = SimpleNamespace(score=score, **key)
        result = SimpleNamespace(hypothesis=hypothesis) if version == "4" else hypothesis
        return SimpleNamespace(bbox=SimpleNamespace(center=centre, size_x=size, size_y=size), results=[result])

    array = SimpleNamespace(
        detections=[
            detection(50, 25, "stain", 0.9), detection(20, 20, "crack", 0.8), detection(30, 30, "cat", 0.7),
            detection(50, 25, "crack", 0.3), detection(500, 25, "crack", 0.9), detection(5, 5, "crack", 0.9, size=0.0),
            detection(5, float("nan"), "crack", 0.9), detection(5, 5, "crack", float("nan")),
        ]
    )  # fmt: skip
    found = findings_of(array, (100, 50), POLICY.classes, TYPES, 0.5)
    assert [(f.best.defect_type, f.best.confidence) for f in found] == [("dirty", 0.9), ("crack", 0.8), ("other", 0.7)]
    assert found[0].place == (0.5, 0.5) and found[0].box == Box(40, 15, 20, 20)


# The store

FOREVER = 1e12


def test_reports_and_pictures_survive_and_the_last_state_counts(tmp_path):
    store = Store(tmp_path, 10**6, FOREVER)
    kept = store.put(report(), b"picture", Box(1, 2, 3, 4))
    kept = store.put(Report.from_json(kept.to_json() | {"status": "confirmed", "times_seen": 2}))
    again = Store(tmp_path, 10**6, FOREVER)
    assert again.reports == (kept,) and again.path_of(kept.evidence[0]).read_bytes() == b"picture"
    assert len((tmp_path / REPORTS).read_text().splitlines()) == 1  # written anew when opened
    assert oct(os.stat(tmp_path).st_mode)[-3:] == "700"
    assert oct(os.stat(again.path_of(kept.evidence[0])).st_mode)[-3:] == "600"
    assert json.loads((tmp_path / REPORTS).read_text())["severity"] == "minor"


def test_of_many_pictures_of_a_report_the_first_and_the_newest_stay(tmp_path):
    store = Store(tmp_path, 10**6, FOREVER)
    kept = report()
    for i in range(6):
        kept = store.put(kept, b"%d" % i, Box(0, 0, 1, 1))
    assert [store.path_of(e).read_bytes() for e in kept.evidence] == [b"0", b"4", b"5"]
    assert len(list((tmp_path / "evidence").iterdir())) == 3


@pytest.mark.parametrize("cut", [1, 30, 300, 600, 5000])
def test_a_torn_end_costs_the_last_line_only(tmp_path, cut):
    folder = tmp_path
    store = Store(folder, 10**6, FOREVER)
    reports = [store.put(report(last_seen=float(i))) for i in range(3)]
    content = (folder / REPORTS).read_bytes()
    (folder / REPORTS).write_bytes(content[: len(content) - min(cut, len(content))])
    whole = content[: len(content) - min(cut, len(content))].count(b"\n")
    back = Store(folder, 10**6, FOREVER).reports
    assert back[:whole] == tuple(reports[:whole]) and len(back) <= whole + 1
    again = Store(folder, 10**6, FOREVER)
    again.put(report(last_seen=9.0))
    assert len(Store(folder, 10**6, FOREVER).reports) == len(back) + 1


def test_the_oldest_go_when_there_is_too_much_or_they_are_too_old(tmp_path):
    now = 1000.0
    store = Store(tmp_path, 50_000, 500.0, clock=lambda: now)
    for i in range(30):
        store.put(report(last_seen=900.0 + i), bytes(4000), Box(0, 0, 1, 1))
        assert store.nbytes <= 50_000
    left = [r.last_seen for r in store.reports]
    assert left == [900.0 + i for i in range(30 - len(left), 30)] and len(left) >= 8
    now = 1425.5
    store.keep_bounds()
    assert [r.last_seen for r in store.reports] == [926.0, 927.0, 928.0, 929.0]
    assert len(list((tmp_path / "evidence").iterdir())) == 4


def test_a_picture_without_a_report_is_deleted_when_the_store_is_opened(tmp_path):
    store = Store(tmp_path, 10**6, FOREVER)
    kept = store.put(report(), b"a", Box(0, 0, 1, 1))
    (tmp_path / "evidence" / f"{uuid4()}-0.jpg").write_bytes(b"stray")
    (tmp_path / "evidence" / ".half.jpg.new").write_bytes(b"half")
    Store(tmp_path, 10**6, FOREVER)
    assert [p.name for p in (tmp_path / "evidence").iterdir()] == [kept.evidence[0].file]


def test_on_a_full_disk_old_reports_make_room_and_the_store_goes_on(tmp_path, monkeypatch):
    store = Store(tmp_path, 10**9, FOREVER)
    old = [store.put(report(last_seen=float(i)), bytes(3000), Box(0, 0, 1, 1)) for i in range(4)]
    room = 10_500
    write = store_module._write

    def bounded(path: Path, content: bytes) -> None:
        there = sum(p.stat().st_size for p in (tmp_path / "evidence").iterdir())
        if path.suffix == ".jpg" and there + len(content) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(store_module, "_write", bounded)
    new = store.put(report(last_seen=10.0), bytes(3000), Box(0, 0, 1, 1))
    kept = [r.report_id for r in store.reports]
    assert new.report_id in kept and old[-1].report_id in kept and old[0].report_id not in kept
    with pytest.raises(StoreError, match="full"):
        store.put(report(last_seen=11.0), bytes(20_000), Box(0, 0, 1, 1))
    monkeypatch.undo()
    assert {r.report_id for r in Store(tmp_path, 10**9, FOREVER).reports} <= {r.report_id for r in store.reports}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_line_that_does_not_fit_leaves_no_half_of_it(tmp_path):
    store = Store(tmp_path, 10**6, FOREVER)
    kept = store.put(report())
    (tmp_path / REPORTS).rename(tmp_path / "whole")
    (tmp_path / REPORTS).symlink_to("/dev/full")
    with pytest.raises(StoreError, match="full"):
        store.put(report())
    (tmp_path / REPORTS).unlink()
    (tmp_path / "whole").rename(tmp_path / REPORTS)
    assert Store(tmp_path, 10**6, FOREVER).reports == (kept,)


def test_a_report_is_the_same_after_json():
    whole = report(pose=(1.0, 2.0, 0.5), words="ünf", object_id="box", report_id=UUID(int=5))
    assert Report.from_json(json.loads(json.dumps(whole.to_json()))) == whole

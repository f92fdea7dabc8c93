"""Claims about the inspector node over DDS: pictures become reports, people's words join, bad pictures do no harm."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse
from uuid import uuid4

import message_packages
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from ros_bench import Bench, wait_for
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from bench import inspection_scenes as scenes
from nano_agent_ros.inspection.images import from_compressed, to_file
from nano_agent_ros.inspection.store import Store
from nano_agent_ros.msg import DefectReport
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import pose_message, uuid_message, uuid_of
from nano_agent_ros.nodes.inspector import PARAMETERS, InspectorNode
from nano_agent_ros.nodes.lifecycle import ERROR, OK, WARN
from nano_agent_ros.skills import Site

ROOT = Path(__file__).resolve().parent.parent


def add_inspector(bench: Bench, tmp_path: Path, **parameters) -> InspectorNode:
    folders = {"golden_dir": str(tmp_path / "golden"), "store_dir": str(tmp_path / "store")}
    quick = {"rate_hz": 30.0, "min_pictures": 2, "forget_s": 60.0}
    return bench.add(InspectorNode, **(folders | quick | parameters))


def image(frame: np.ndarray) -> Image:
    height, width = frame.shape[:2]
    return Image(height=height, width=width, encoding="bgr8", step=3 * width, data=frame.tobytes())


def show(bench: Bench, topic: str, message: Image | CompressedImage, until: Callable[[], object], what: str) -> None:
    """Publish a picture as a camera does, again and again, until something comes of it."""
    publisher = bench.probe.create_publisher(type(message), topic, qos_profile_sensor_data)

    def published() -> object:
        publisher.publish(message)
        time.sleep(0.05)
        return until()

    wait_for(published, what)
    bench.probe.destroy_publisher(publisher)


def file_of(uri: str) -> Path:
    return Path(unquote(urlparse(uri).path))


def test_what_the_camera_sees_and_a_person_says_becomes_one_report_with_evidence(bench, tmp_path):
    good = scenes.part(8)
    bad, mask = scenes.spoiled(good, "dirty", 8)
    reports = bench.watch(DefectReport, "defect_report", qos.REPORT)
    node = add_inspector(bench, tmp_path)
    rack = Site.load("warehouse").locations["rack_7"].pose
    stamp = bench.probe.get_clock().now().to_msg()
    bench.publish("pose", pose_message((rack[0] + 0.5, rack[1], 0.0), "map", stamp), qos.LATEST)
    wait_for(lambda: node._location() == "rack_7", "the pose")
    assert "no picture" in bench.call(Trigger, "add_golden", Trigger.Request()).message
    show(bench, "image", image(good), lambda: node._frame is not None, "a picture")
    added = bench.call(Trigger, "add_golden", Trigger.Request())
    assert added.success and Path(added.message).parent.name == "rack_7"

    show(bench, "image", image(scenes.taken(bad, 8)), lambda: reports, "a report")
    seen = reports[0]
    assert (seen.source, seen.location_id, seen.defect_type) == (DefectReport.SOURCE_VISION, "rack_7", "dirty")
    assert seen.severity == DefectReport.SEVERITY_MINOR and seen.status == DefectReport.STATUS_OPEN
    assert "dirt" in seen.description and "rack 7" in seen.description and seen.recommended_action
    assert seen.has_pose and seen.pose.pose.position.x == rack[0] and 0 < seen.confidence < 1
    assert not seen.evidence and len(seen.evidence_uris) == len(seen.regions) == 1  # the picture stays on the disk
    assert (
        np.abs(from_compressed(file_of(seen.evidence_uris[0]).read_bytes()).astype(int) - scenes.taken(bad, 8)).mean()
        < 5
    )
    region, where = seen.regions[0], scenes.where(mask, 8)
    inside = where[region.y_offset : region.y_offset + region.height, region.x_offset : region.x_offset + region.width]
    assert inside.sum() > 0.5 * where.sum()

    told = DefectReport(
        report_id=uuid_message(uuid4()), source=DefectReport.SOURCE_SPOKEN, location_id="rack_7", defect_type="spill",
        severity=DefectReport.SEVERITY_CRITICAL, description="There's oil on rack seven.", confidence=0.9,
    )  # fmt: skip
    told.header.stamp = bench.probe.get_clock().now().to_msg()
    bench.publish("defect_report", told, qos.REPORT)
    wait_for(lambda: [r for r in reports if r.status == DefectReport.STATUS_DISMISSED], "the person's report to join")
    joined = [r for r in reports if r.source == DefectReport.SOURCE_BOTH][-1]
    dismissed = [r for r in reports if r.status == DefectReport.STATUS_DISMISSED][-1]
    assert joined.report_id == seen.report_id and dismissed.report_id == told.report_id
    assert (joined.defect_type, joined.severity) == ("spill", DefectReport.SEVERITY_CRITICAL)
    assert told.description in joined.description and joined.evidence_uris == seen.evidence_uris

    bench.remove(node)
    before = len(reports)
    again = add_inspector(bench, tmp_path, location="rack_7")
    assert again._inspector.store.nbytes > 1000
    show(bench, "image", image(scenes.taken(bad, 9)), lambda: len(reports) > before, "the report after a restart")
    assert reports[-1].report_id == seen.report_id and reports[-1].status == DefectReport.STATUS_CONFIRMED
    kept = Store(tmp_path / "store", 10**9, 1e12).reports
    assert {r.report_id for r in kept} == {uuid_of(seen.report_id), uuid_of(told.report_id)}


def test_pictures_that_make_no_sense_are_refused_and_the_node_goes_on(bench, tmp_path):
    diagnostics = bench.watch(DiagnosticArray, "/diagnostics", 10)
    good = scenes.part(9)
    node = add_inspector(bench, tmp_path, transport="compressed", location="dock_1", describe="template")
    whole = to_file(good, ".jpg")

    def said(words: str) -> bool:
        return any(s.level == WARN and words in s.message for a in diagnostics for s in a.status)

    for content, words in ((whole[: len(whole) // 2], "cut off"), (b"", "neither"), (b"\x89PNG no", "neither")):
        message = CompressedImage(format="jpeg", data=content)
        show(bench, "image/compressed", message, lambda words=words: said(words), words)
    message = CompressedImage(format="jpeg", data=whole)
    show(bench, "image/compressed", message, lambda: node._frame is not None, "a picture after bad ones")
    assert node.level == OK and node._counts["refused"] >= 3
    assert bench.call(Trigger, "add_golden", Trigger.Request()).success


def test_raw_pictures_of_the_wrong_size_are_refused(bench, tmp_path):
    diagnostics = bench.watch(DiagnosticArray, "/diagnostics", 10)
    add_inspector(bench, tmp_path, location="dock_1", describe="template")
    empty, short = Image(encoding="rgb8"), image(scenes.part(9))
    short.height *= 2
    for message, words in ((empty, "empty"), (short, "too few"), (Image(encoding="jpeg"), "not supported")):
        show(
            bench, "image", message,
            lambda words=words: any(words in s.message for a in diagnostics for s in a.status), words,
        )  # fmt: skip


def test_a_report_goes_out_even_if_it_cannot_be_kept(bench, tmp_path):
    reports = bench.watch(DefectReport, "defect_report", qos.REPORT)
    node = add_inspector(bench, tmp_path, location="rack_5", describe="template")
    good = scenes.part(8)
    node._inspector.goldens.add("rack_5", good)
    for path in (tmp_path / "store").rglob("*"):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "store").rmdir()
    (tmp_path / "store").write_text("a file where the folder was")
    bad = image(scenes.taken(scenes.spoiled(good, "dirty", 8)[0], 8))
    show(bench, "image", bad, lambda: reports, "a report")
    wait_for(lambda: node.level == ERROR and "not kept" in node.health[1], "the diagnosis")
    assert not reports[0].evidence_uris


def test_without_vision_msgs_detections_cannot_be_asked_for(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    node = bench.add(InspectorNode, up=False, detections=True, store_dir=str(tmp_path))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "vision_msgs" in node.health[1]
    bench.set(node, detections=False, describe="template")
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


@pytest.mark.slow
def test_what_another_detector_sees_is_reported_with_the_picture(bench, tmp_path):
    message_packages.provide("vision_msgs")
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    reports = bench.watch(DefectReport, "defect_report", qos.REPORT)
    node = add_inspector(bench, tmp_path, detections=True, location="dock_2", describe="template")
    show(bench, "image", image(scenes.part(9)), lambda: node._frame is not None, "a picture")
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "corrosion", 0.8
    detection = Detection2D(results=[hypothesis])
    detection.bbox.center.position.x, detection.bbox.center.position.y = 100.0, 400.0
    detection.bbox.size_x = detection.bbox.size_y = 40.0
    show(bench, "detections", Detection2DArray(detections=[detection]), lambda: reports, "a report")
    report = reports[0]
    assert (report.defect_type, report.location_id) == ("rust", "dock_2")
    assert report.confidence == pytest.approx(0.8) and "lower left" in report.description
    region = report.regions[0]
    assert (region.x_offset, region.y_offset, region.width, region.height) == (80, 380, 40, 40)
    assert from_compressed(file_of(report.evidence_uris[0]).read_bytes()).shape == (*scenes.SIZE, 3)


def test_opencv_is_needed_by_name(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    node = bench.add(InspectorNode, up=False, store_dir=str(tmp_path))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "nano_agent_ros[inspect]" in node.health[1]


def test_every_parameter_is_documented_with_its_default():
    section = (ROOT / "docs/nodes.md").read_text().split("\n## inspector\n")[1].split("\n## ")[0]
    for parameter in PARAMETERS:
        default = str(parameter.default).lower() if isinstance(parameter.default, bool) else str(parameter.default)
        shown = default or '""'
        assert f"| `{parameter.name}` | `{shown}` |" in section, parameter.name

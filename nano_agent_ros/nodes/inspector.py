"""The inspector: camera pictures, detections and people's reports become DefectReports that are kept on disk."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from nano_agent_ros.agent import Model
from nano_agent_ros.errors import ConfigError, NanoAgentError
from nano_agent_ros.inspection.book import Change
from nano_agent_ros.inspection.describe import ByModel, Describer, Template
from nano_agent_ros.inspection.detections import findings_of
from nano_agent_ros.inspection.detector import Settings
from nano_agent_ros.inspection.folders import golden_folder, report_folder
from nano_agent_ros.inspection.golden import Goldens
from nano_agent_ros.inspection.images import Frame, from_compressed, from_raw
from nano_agent_ros.inspection.inspector import Inspector, Pose, location_at
from nano_agent_ros.inspection.opencv import opencv
from nano_agent_ros.inspection.policy import Policy
from nano_agent_ros.inspection.store import Store
from nano_agent_ros.msg import DefectReport
from nano_agent_ros.nodes import qos
from nano_agent_ros.nodes.conversions import pose_of, seconds_of
from nano_agent_ros.nodes.defects import detection_array_type, report_message, spoken_of
from nano_agent_ros.nodes.diagnostics import TimeStamps
from nano_agent_ros.nodes.lifecycle import ERROR, OK, WARN, ManagedNode, run
from nano_agent_ros.nodes.parameters import Live, Parameter
from nano_agent_ros.resources import default_skills
from nano_agent_ros.skills import Site, Skills
from nano_agent_ros.state import PrefixCache

TRANSPORTS, WRITERS = ("raw", "compressed", "none"), ("model", "template")
PARAMETERS = (
    Parameter(
        "transport", "raw", "Pictures come on `image` (raw), `image/compressed`, or not at all", choices=TRANSPORTS
    ),
    Parameter("detections", False, "Whether `detections` (vision_msgs) is subscribed; needs vision_msgs installed"),
    Parameter("site", "warehouse", "Site file, or the name of one that ships: where locations are"),
    Parameter("skills", "", "Skills file, for the types of report_defect; empty: the one that ships"),
    Parameter("policy", "", "Policy file: severity by type, size and place; empty: the one that ships"),
    Parameter("location", "", "Location id of a camera that does not move; empty: where the robot is, by `pose`"),
    Live("near_m", 1.5, "The robot is at a location within this distance of its pose, in metres", 0.05, 100.0),
    Parameter("golden_dir", "", "Folder of the golden samples; empty: one in the user's data folder"),
    Parameter("store_dir", "", "Folder of reports and evidence; empty: of the namespace, in the user's state folder"),
    Live("rate_hz", 2.0, "Pictures compared per second at most", 0.05, 30.0),
    Live("min_pictures", 3, "Pictures in which a finding must be there before it is reported", 1, 100),
    Live("forget_s", 3.0, "A finding that was not seen for longer must be seen anew, in seconds", 0.1, 600.0),
    Live("min_contrast", 14.0, "Grey levels by which a defect differs at least", 2.0, 200.0),
    Live("min_area_percent", 0.01, "Part of the picture that a defect covers at least, in percent", 0.001, 50.0),
    Live("tolerance_px", 1, "How far pixels may be misplaced, in pixels of a picture 640 wide", 0, 5),
    Live("min_likeness", 0.5, "Correlation with a golden sample of a picture that shows the same thing", 0.0, 1.0),
    Live("min_score", 0.5, "Detections of vision_msgs that score less are passed over", 0.0, 1.0),
    Live("merge_window_s", 900.0, "Within this time a person and a camera mean one thing, in seconds", 0.0, 1e6),
    Parameter("describe", "model", "Who words descriptions: the language model, or a template", choices=WRITERS),
    Parameter("model", "", "Model folder for that; empty: the one that ships"),
    Parameter("engine", "native", "What runs the model: native, or another engine of the package"),
    Parameter("threads", 1, "CPU threads of the engine; 0: it decides", 0, 256),
    Parameter("max_store_mb", 500.0, "Reports and evidence take at most this, in megabytes; the oldest go", 1.0, 1e6),
    Parameter("max_age_days", 90.0, "Reports that were not seen for longer go, in days", 0.01, 10000.0),
    Live("jpeg_quality", 90, "Quality of evidence pictures", 30, 100),
)
OLDEST_S = 5.0  # of a picture when it comes


class InspectorNode(ManagedNode):
    """Subscribes image or image/compressed, detections, pose, defect_report; publishes defect_report."""

    def __init__(self) -> None:
        """Create topics and the service; OpenCV, model and store come with configure."""
        super().__init__("inspector", PARAMETERS)
        self._lock = threading.Lock()
        self._settings: Mapping[str, Any] = {}
        self._inspector: Inspector | None = None
        self._site: Site | None = None
        self._types: tuple[str, ...] = ()
        self._pose: Pose | None = None
        self._frame: Frame | None = None
        self._last_s = float("-inf")
        self._counts = {"pictures": 0, "refused": 0, "compared": 0, "reports": 0}
        self._eyes: list[Any] = []
        self._pictures, self._words = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        poses = MutuallyExclusiveCallbackGroup()
        self._reports = self.create_lifecycle_publisher(DefectReport, "defect_report", qos.REPORT)
        self.create_subscription(PoseStamped, "pose", self._on_pose, qos.MEASUREMENT, callback_group=poses)
        self.create_service(Trigger, "add_golden", self._on_add_golden, callback_group=self._words)

    def setup(self, values: Mapping[str, Any]) -> None:
        """Load site, policy and model, open the store; raises without OpenCV."""
        opencv()
        if values["detections"] and detection_array_type() is None:
            raise ConfigError("parameter detections: vision_msgs is not installed (ros-<distro>-vision-msgs)")
        site, skills = Site.load(values["site"]), Skills.load(values["skills"] or default_skills())
        if values["location"] and values["location"] not in site.locations:
            raise ConfigError(f"parameter location: '{values['location']}' is no location of the site")
        arguments = skills["report_defect"].arguments if "report_defect" in skills else ()
        types = next((a.values for a in arguments if a.name == "defect_type"), ())
        if not types:
            raise ConfigError("the skills file lacks report_defect with defect_type, which names the types of defect")
        store = Store(
            report_folder(values["store_dir"], self.get_namespace()),
            round(values["max_store_mb"] * 1e6),
            values["max_age_days"] * 86400,
            self._now,
        )
        inspector = Inspector(
            Goldens(golden_folder(values["golden_dir"])),
            store,
            Policy.load(values["policy"] or None, types, site.locations),
            _describer(values, skills, site),
            _settings(values),
            values["min_pictures"],
            values["forget_s"],
            values["merge_window_s"],
            values["jpeg_quality"],
        )
        with self._lock:
            self._settings, self._site, self._types, self._inspector = values, site, types, inspector
        places = ", ".join(inspector.goldens.locations()) or "none yet"
        self.get_logger().info(f"golden samples in {inspector.goldens.folder}: {places}; reports in {store.folder}")

    def retune(self, values: Mapping[str, Any]) -> None:
        """Go on with other thresholds, from the next picture on."""
        with self._lock:
            if self._inspector is not None:
                limits = (values["min_pictures"], values["forget_s"], values["merge_window_s"], values["jpeg_quality"])
                self._inspector.retune(_settings(values), *limits)

    def start(self) -> None:
        """Look and listen from now on."""
        kinds: dict[str, list[tuple[Any, str, Any]]] = {
            "raw": [(Image, "image", self._on_image)],
            "compressed": [(CompressedImage, "image/compressed", self._on_compressed)],
            "none": [],
        }
        wanted = kinds[self._settings["transport"]]
        if self._settings["detections"]:
            wanted = [*wanted, (detection_array_type(), "detections", self._on_detections)]
        group = self._pictures
        self._eyes = [self.create_subscription(k, t, call, qos.CAMERA, callback_group=group) for k, t, call in wanted]
        self._eyes.append(
            self.create_subscription(
                DefectReport, "defect_report", self._on_report, qos.REPORT, callback_group=self._words
            )
        )
        self._stamps = TimeStamps(self._now, OLDEST_S)
        if self._settings["transport"] != "none":
            self.tasks = {"pictures": self._stamps}
        self._tell()

    def halt(self) -> None:
        """Look no longer."""
        for subscription in self._eyes:
            self.destroy_subscription(subscription)
        self._eyes = []

    def teardown(self) -> None:
        """Release model and store; waits for the picture in hand."""
        with self._lock:
            self._inspector = self._frame = None

    def _on_pose(self, message: PoseStamped) -> None:
        pose = pose_of(message)
        self._pose = (pose.x, pose.y, pose.yaw)

    def _on_image(self, message: Image) -> None:
        self._stamps.tick(seconds_of(message.header.stamp))
        if self._due():
            m = message
            self._look(lambda: from_raw(m.encoding, m.height, m.width, m.step, bool(m.is_bigendian), m.data))

    def _on_compressed(self, message: CompressedImage) -> None:
        self._stamps.tick(seconds_of(message.header.stamp))
        if self._due():
            self._look(lambda: from_compressed(message.data))

    def _due(self) -> bool:
        """Whether another picture may be compared yet."""
        return self.active and time.monotonic() - self._last_s >= 1.0 / self._settings["rate_hz"]

    def _look(self, read: Any) -> None:
        self._last_s = time.monotonic()
        self._counts["pictures"] += 1
        try:
            frame = read()
        except NanoAgentError as error:
            self._counts["refused"] += 1
            self._frame = None
            self.get_logger().warning(f"a picture was refused: {error}", throttle_duration_sec=10.0)
            self._tell(WARN, f"a picture was refused: {error}")
            return
        with self._lock:
            inspector = self._inspector
            if inspector is None:
                return
            self._frame = frame
            location = self._location()
            try:
                looked = inspector.look(frame, location, self._place_of(location), self._now())
            except NanoAgentError as error:  # such as a golden sample that is no picture
                self._tell(WARN, str(error), location=location)
                return
        took_ms = f"{(time.monotonic() - self._last_s) * 1e3:.0f}"
        self._counts["compared"] += not looked.problem
        self._publish(looked.changes)
        # A robot on its way is at no location and sees many places without a sample: that is no fault.
        self._tell(OK, looked.problem or "active", location=location, picture_ms=took_ms)

    def _on_detections(self, message: Any) -> None:
        with self._lock:
            inspector, frame = self._inspector, self._frame
            if inspector is None or not self.active:
                return
            if frame is None:
                self._tell(WARN, "detections are passed over: there is no picture that they could belong to")
                return
            size = (frame.shape[1], frame.shape[0])
            classes, least = inspector.policy.classes, self._settings["min_score"]
            findings = findings_of(message, size, classes, self._types, least)
            location = self._location()
            changes = inspector.detected(findings, frame, location, self._place_of(location), self._now())
        self._publish(changes)
        if changes:
            self._tell()

    def _on_report(self, message: DefectReport) -> None:
        if message.source != DefectReport.SOURCE_SPOKEN or message.status != DefectReport.STATUS_OPEN:
            return
        with self._lock:
            if self._inspector is None or not self.active:
                return
            change = self._inspector.told(spoken_of(message, self._location()))
        if change is not None:
            # As the person's report stands already, it goes out again only if the policy or the camera adds to it.
            if change.dismissed is not None or int(change.report.severity) != message.severity:
                self._publish([change])
            self._tell()

    def _on_add_golden(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Keep the newest picture as a golden sample of where the robot is."""
        with self._lock:
            inspector, frame, location = self._inspector, self._frame, self._location()
            if inspector is None or frame is None:
                response.message = "there is no picture yet; is the node active and the camera running?"
            elif not location:
                response.message = "the robot is at no location of the site; drive it to one, or set location"
            else:
                try:
                    response.message = str(inspector.goldens.add(location, frame))
                    response.success = True
                except NanoAgentError as error:
                    response.message = str(error)
        self.get_logger().info(f"add_golden: {response.message}")
        return response

    def _publish(self, changes: Iterable[Change]) -> None:
        inspector = self._inspector
        for change in changes:
            for report in filter(None, (change.report, change.dismissed)):
                if inspector is None or self._site is None:
                    return
                self._counts["reports"] += 1
                pictures: list[Path] = [inspector.store.path_of(e) for e in report.evidence]
                self._reports.publish(report_message(report, pictures, self._site.frame_id))
                where = report.location_id or "an unknown place"
                text = f"{report.severity.name.lower()} {report.defect_type} at {where} ({report.source.name.lower()})"
                self.get_logger().info(f"{text}, {report.status.name.lower()}: {report.description}")

    def _tell(self, level: bytes = OK, text: str = "active", **values: object) -> None:
        """Show on /diagnostics how it goes; that reports cannot be kept counts more than anything else."""
        inspector = self._inspector
        if inspector is not None and inspector.failure:
            level, text = ERROR, f"reports are not kept: {inspector.failure}"
        kept = len(inspector.store.reports) if inspector is not None else 0
        self.diagnose(level, text, **self._counts, kept=kept, **values)

    def _location(self) -> str:
        """Where the robot (or the fixed camera) is; empty if at no location or not known."""
        if fixed := self._settings.get("location"):
            return str(fixed)
        if self._pose is None or self._site is None:
            return ""
        return location_at(self._site, *self._pose[:2], self._settings["near_m"])

    def _place_of(self, location: str) -> Pose | None:
        """The location's pose, else the robot's."""
        place = self._site.locations.get(location) if self._site else None
        return place.pose if place is not None and place.pose is not None else self._pose

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9


def _settings(values: Mapping[str, Any]) -> Settings:
    return Settings(
        min_contrast=values["min_contrast"],
        min_area=values["min_area_percent"] / 100,
        tolerance=values["tolerance_px"],
        min_likeness=values["min_likeness"],
    )


def _describer(values: Mapping[str, Any], skills: Skills, site: Site) -> Describer:
    if values["describe"] == "template":
        return Template(site)
    model = Model.open(values["model"] or None, values["engine"], values["threads"] or None)
    return ByModel(model, skills, site, PrefixCache())


def main() -> int:
    """Run the node."""
    return run(InspectorNode)


if __name__ == "__main__":
    sys.exit(main())

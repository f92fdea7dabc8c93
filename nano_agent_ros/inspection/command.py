"""`nano-agent golden`: the golden samples of a site, from files."""

from __future__ import annotations

import argparse
from pathlib import Path

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.inspection.detector import Detector
from nano_agent_ros.inspection.folders import golden_folder
from nano_agent_ros.inspection.golden import Goldens, read_picture
from nano_agent_ros.skills import Site

DESCRIPTION = """\
The pictures that the inspector compares with: how each location of the site ought to look (docs/inspection.md).
A running inspector stores the picture that it sees now by its service add_golden.

  nano-agent golden add rack_7 good1.jpg good2.jpg    keep pictures of rack_7
  nano-agent golden list                              what is kept
  nano-agent golden check rack_7 new.jpg              compare a picture now: what the inspector would find in it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--dir", default="", help="folder of the samples (default: as the inspector's golden_dir)")
    actions = parser.add_subparsers(dest="action", metavar="add | list | check", required=True)
    add = actions.add_parser("add", help="keep pictures as golden samples of a location")
    check = actions.add_parser("check", help="compare pictures with the golden samples of a location")
    for action in (add, check):
        action.add_argument("location", help="location id of the site, such as rack_7")
        action.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="JPEG or PNG file")
        action.add_argument("--site", default="warehouse", help="site file, or the name of one that ships")
    actions.add_parser("list", help="print what is kept")


def run(args: argparse.Namespace) -> int:
    """Run it; `check` returns 1 if it finds anything or cannot compare."""
    goldens = Goldens(golden_folder(args.dir))
    if args.action == "list":
        for location in goldens.locations():
            print(f"{location}: {', '.join(path.name for path in goldens.paths(location))}")
        print(f"in {goldens.folder}")
        return 0
    locations = Site.load(args.site).locations
    if args.location not in locations:
        raise ConfigError(f"'{args.location}' is no location of the site; these are: {', '.join(locations)}")
    frames = [(path, read_picture(path)) for path in args.pictures]
    if args.action == "add":
        for _, frame in frames:
            print(goldens.add(args.location, frame))
        return 0
    detector = Detector(goldens.load(args.location), mask=goldens.mask(args.location))
    code = 0
    for path, frame in frames:
        result = detector.inspect(frame)
        for finding in result.findings:
            box, shape = finding.box, finding.shape
            types = ", ".join(f"{c.defect_type} {c.confidence:.0%}" for c in finding.candidates)
            contrast = f"{shape.contrast:+.0f} grey levels, " if shape else ""
            size = f"{finding.area:.2%} of the picture"
            print(f"{path}: {box.width:.0f} x {box.height:.0f} at {box.x:.0f}, {box.y:.0f}: {types}; {contrast}{size}")
        print(f"{path}: {result.problem or f'{len(result.findings)} findings'} (likeness {result.likeness:.2f})")
        code = 1 if result.findings or result.problem else code
    return code

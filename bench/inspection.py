"""How many made-up defects the inspector finds, and how many good parts alarm it, under conditions that get worse.

    python -m bench.inspection [--parts N] [--conditions NAME,…] [--out FILE.json]

Each part has one golden sample and is taken again, good and with each kind of defect, by a camera that has moved, in
another light (bench/inspection_scenes.py). The pictures are made up: the figures say what the method bears, not what a
camera on a site will see. The rules for types were written with defects of the same three makers in view; parts below
2000 were looked at while the detector was written and are left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from bench import inspection_scenes as scenes
from bench.harness import Row, add_out, report, say
from nano_agent_ros.inspection.detector import Detector
from nano_agent_ros.inspection.opencv import opencv

FIRST_PART = 2000


CONDITIONS: dict[str, tuple[scenes.View, float]] = {  # how it is taken, and the contrast of marks against the usual
    "as usual": (scenes.View(), 1.0),
    "much noise": (scenes.View(noise=10.0), 1.0),
    "moved far": (scenes.View(shift=40.0, turn=8.0), 1.0),
    "a third of the contrast": (scenes.View(), 0.33),
    "a fifth of the contrast": (scenes.View(), 0.2),
    "tilted a little": (scenes.View(tilt=4.0), 1.0),
    "tilted much": (scenes.View(tilt=15.0), 1.0),
    "out of focus": (scenes.View(blur=2.5), 1.0),
    "a hard shadow": (scenes.View(shadow=0.3), 1.0),
}


def measure(name: str, view: scenes.View, strength: float, parts: int) -> list[Row]:
    """The figures of one condition."""
    alarms = refused = right = 0
    found = dict.fromkeys(scenes.DEFECTS, 0)
    seconds: list[float] = []
    for seed in range(FIRST_PART, FIRST_PART + parts):
        good = scenes.part(seed)
        detector = Detector([scenes.taken(good, seed + 500, scenes.STRAIGHT)])
        clean = detector.inspect(scenes.taken(good, seed, view))
        alarms += bool(clean.findings)
        refused += bool(clean.problem)
        for kind in scenes.DEFECTS:
            bad, mask = scenes.spoiled(good, kind, seed, strength)
            picture = scenes.taken(bad, seed, view)
            begun = time.perf_counter()
            result = detector.inspect(picture)
            seconds.append(time.perf_counter() - begun)
            hit = scenes.found_at(result.findings, scenes.where(mask, seed, view))
            found[kind] += hit is not None
            right += hit is not None and hit.best.defect_type == kind
    config = {"parts": parts, "opencv": opencv().__version__, "strength": strength, **vars(view)}

    def share(what: str, count: int, of: int) -> Row:
        return Row(f"{name}: {what}", 100 * count / max(of, 1), "%", config=config)

    rows = [share(f"{kind} found", count, parts) for kind, count in found.items()]
    rows.append(share("of what was found, type right", right, sum(found.values())))
    rows.append(share("good parts with an alarm", alarms, parts))
    rows.append(share("good parts not compared", refused, parts))
    rows.append(Row(f"{name}: time of a picture", 1e3 * statistics.median(seconds), "ms", config=config))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.inspection", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=int, default=40, help="parts a condition (default: 40)")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="names, with commas between")
    add_out(parser)
    args = parser.parse_args(argv)
    rows: list[Row] = []
    for name in args.conditions.split(","):
        if name not in CONDITIONS:
            parser.error(f"there is no condition '{name}'; there are: {', '.join(CONDITIONS)}")
        say(f"{name}: {args.parts} parts")
        rows += measure(name, *CONDITIONS[name], args.parts)
    report(rows, args.out)


if __name__ == "__main__":
    main()

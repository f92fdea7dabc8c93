"""Built engines on disk: found again by model, TensorRT, GPU and options, so that a robot builds once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nano_agent_ros.engine.base import EngineError
from nano_agent_ros.quantize.artifact import Artifact

from .build import PRECISIONS, Plans
from .ring import Ring
from .versions import TensorRT

ANY_GPU = "any"
_ENTRY, _STEP, _REPLAY = "entry.json", "step.engine", "replay.engine"


@dataclass(frozen=True)
class Options:
    """What an engine is built for: attention window, tokens of the largest step, dtype of activations."""

    window: int = 4096
    sinks: int = 64
    chunk: int = 128
    precision: str = "fp16"

    def __post_init__(self) -> None:
        if self.window < 1 or self.sinks < 0 or self.chunk < 2:
            raise EngineError(
                f"window {self.window}, sinks {self.sinks}, chunk {self.chunk}: at least 1, 0 and 2 tokens"
            )
        if self.precision not in PRECISIONS:
            raise EngineError(f"precision {self.precision!r}: known are {', '.join(PRECISIONS)}")

    @property
    def ring(self) -> Ring:
        """The ring of keys and values."""
        return Ring(self.window, self.sinks, self.chunk)


def cache_folder(given: str | Path | None = None) -> Path:
    """The given folder, or tensorrt/ in the user's cache of this package (XDG_CACHE_HOME, else ~/.cache)."""
    if given is not None:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "nano_agent_ros" / "tensorrt"


def store(
    trt: TensorRT, artifact: Artifact, options: Options, gpus: Sequence[str], plans: Plans, given: str | Path | None
) -> Path:
    """Write built engines for `gpus` (names, capabilities or `ANY_GPU`); the folder appears whole or not at all."""
    content = _identity(trt, artifact, options) | {"gpus": sorted(gpus)}
    files = {_STEP: plans.step} | ({_REPLAY: plans.replay} if plans.replay else {})
    sums = {name: {"nbytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    folder = cache_folder(given) / hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for name, data in files.items():
            (new / name).write_bytes(data)
        (new / _ENTRY).write_text(json.dumps(content | {"files": sums}, indent=1) + "\n", encoding="utf-8")
        new.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return folder


def find(
    trt: TensorRT, artifact: Artifact, options: Options, gpus: Sequence[str], given: str | Path | None = None
) -> Plans:
    """The engines built for this model, TensorRT and options, and for one of `gpus`.

    Raises EngineError that names the command to build them, or the damaged file.
    """
    wanted = _identity(trt, artifact, options)
    for path in sorted(cache_folder(given).glob(f"[!.]*/{_ENTRY}")):
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise EngineError(f"{path} is damaged ({e}); remove {path.parent} and build again") from e
        if all(entry.get(key) == value for key, value in wanted.items()) and {ANY_GPU, *gpus} & set(entry["gpus"]):
            return Plans(_read(path, entry, _STEP), _read(path, entry, _REPLAY) if _REPLAY in entry["files"] else None)
    command = f"nano-agent build {artifact.folder} --engine tensorrt"
    for name, default in asdict(Options()).items():
        if getattr(options, name) != default:
            command += f" --{name} {getattr(options, name)}"
    raise EngineError(
        f"no engine is built for {artifact.folder} with {trt.name} on {gpus[0]} and these options; run: {command}"
    )


def read_timings(trt: TensorRT, gpu: str, given: str | Path | None = None) -> bytes:
    """The timing cache of earlier builds on that GPU; empty if there is none."""
    path = _timings(trt, gpu, given)
    return path.read_bytes() if path.exists() else b""


def write_timings(trt: TensorRT, gpu: str, data: bytes, given: str | Path | None = None) -> None:
    """Keep the timing cache for later builds."""
    if data:
        path = _timings(trt, gpu, given)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)


def _timings(trt: TensorRT, gpu: str, given: str | Path | None) -> Path:
    safe = "".join(c if c.isalnum() else "-" for c in gpu)
    return cache_folder(given) / f"timings-{trt.name}-{safe}.cache"


def _read(entry_path: Path, entry: dict[str, Any], name: str) -> bytes:
    path = entry_path.parent / name
    data = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(data).hexdigest() != entry["files"][name]["sha256"]:
        raise EngineError(f"{path} is damaged; remove {path.parent} and build again")
    return data


def _identity(trt: TensorRT, artifact: Artifact, options: Options) -> dict[str, Any]:
    return {
        "model_digest": artifact.model_digest,
        "tensorrt": trt.name,
        "options": asdict(options),
        "graph": _graph_digest(),
    }


def _graph_digest() -> str:
    """SHA-256 of the sources that make the graph: an engine of another version of this package is never loaded."""
    h = hashlib.sha256()
    for name in ("attention", "bindings", "build", "layers", "mamba", "mlp", "network", "ring", "versions"):
        h.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return h.hexdigest()

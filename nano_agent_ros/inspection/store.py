"""Defect reports and their pictures on disk: JSON lines and JPEG files, in bounds, whole after any crash."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.inspection.finding import Box
from nano_agent_ros.inspection.report import Evidence, Report

_log = logging.getLogger(__name__)
REPORTS, PICTURES = "reports.jsonl", "evidence"
PICTURES_OF_A_REPORT = 3
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreError(NanoAgentError):
    """A report or picture that could not be kept; the message names the file."""


class Store:
    """`reports.jsonl` holds a line for each state of a report, the last of an id counts; pictures lie in `evidence/`.

    Only the user of the process may read them. When there is too much of it or it is too old, the reports that were
    seen longest ago go, with their pictures.
    """

    def __init__(self, folder: Path, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.time) -> None:
        """Open or create the folder and drop what is out of bounds; raises StoreError."""
        self.folder, self._max_bytes, self._max_age_s, self._clock = folder, max_bytes, max_age_s, clock
        self._path = folder / REPORTS
        try:
            (folder / PICTURES).mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(folder, 0o700)
            self._reports = self._read()
            for temporary in (folder / PICTURES).glob(".*.new"):
                temporary.unlink(missing_ok=True)
            self._write_all()
            self._drop_strangers()
        except OSError as error:
            raise StoreError(f"cannot use {folder} ({error.strerror}); set store_dir") from error
        self.keep_bounds()

    @property
    def reports(self) -> tuple[Report, ...]:
        """All reports, the one seen longest ago first."""
        return tuple(sorted(self._reports.values(), key=lambda r: r.last_seen))

    @property
    def nbytes(self) -> int:
        """Bytes on disk, of the lines and the pictures."""
        return sum(path.stat().st_size for path in self._files())

    def path_of(self, evidence: Evidence) -> Path:
        """The file of a picture."""
        return self.folder / PICTURES / evidence.file

    def put(
        self, report: Report, picture: bytes | None = None, region: Box | None = None, suffix: str = ".jpg"
    ) -> Report:
        """Keep a report, with a picture if there is one; returns it with its evidence.

        On a full disk the oldest reports make room; raises StoreError if there is still none: the report is then kept
        in memory, and what is on disk is as before.
        """
        try:
            if picture is not None and region is not None:
                report = self._with_picture(report, picture, region, suffix)
            self._append(report)
        finally:
            self._reports[report.report_id] = report
        self.keep_bounds()
        return report

    def keep_bounds(self) -> int:
        """Drop what is too old or too much, the oldest first; returns how many reports went."""
        if self.nbytes > self._max_bytes:
            self._compact()
        now, size, gone = self._clock(), self.nbytes, []
        bound = self._max_bytes if size <= self._max_bytes else 0.9 * self._max_bytes  # not a report at a time
        for report in self.reports:
            if now - report.last_seen <= self._max_age_s and size <= bound:
                break
            size -= self._size_of(report)
            gone.append(report.report_id)
        if gone:
            self._drop(gone)
        return len(gone)

    def _with_picture(self, report: Report, picture: bytes, region: Box, suffix: str) -> Report:
        taken = {e.file for e in report.evidence}
        name = next(n for i in range(1000) if (n := f"{report.report_id}-{i}{suffix}") not in taken)
        self._making_room(lambda: _write(self.folder / PICTURES / name, picture), report.report_id)
        kept = (*report.evidence, Evidence(name, region))
        gone = kept[1 : 1 - PICTURES_OF_A_REPORT]  # the first and the newest stay
        for old in gone:
            self.path_of(old).unlink(missing_ok=True)
        return replace(report, evidence=tuple(e for e in kept if e not in gone))

    def _append(self, report: Report) -> None:
        line = _line(report)

        def append() -> None:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            before = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
            finally:
                os.close(descriptor)

        self._making_room(append, report.report_id)

    def _making_room(self, write: Callable[[], None], but: UUID) -> None:
        """Write; on a full disk drop an old report and try again. Raises StoreError."""
        while True:
            try:
                return write()
            except OSError as error:
                oldest = next((r for r in self.reports if r.report_id != but and r.evidence), None)
                if error.errno not in FULL or oldest is None:
                    reason = f"{error.strerror}; is the disk full?" if error.errno in FULL else error.strerror
                    raise StoreError(f"cannot write in {self.folder} ({reason})") from error
                _log.warning("the disk is full: the report %s of %s makes room", oldest.report_id, oldest.location_id)
                self._drop([oldest.report_id])

    def _drop(self, gone: list[UUID]) -> None:
        for key in gone:
            report = self._reports.pop(key)
            for evidence in report.evidence:
                self.path_of(evidence).unlink(missing_ok=True)
        self._compact()

    def _compact(self) -> None:
        try:
            self._write_all()
        except OSError as error:  # the lines of what is gone stay until there is room; they name no file any more
            _log.warning("cannot write %s anew (%s)", self._path, error.strerror)

    def _write_all(self) -> None:
        _write(self._path, b"".join(map(_line, self.reports)))

    def _read(self) -> dict[UUID, Report]:
        found: dict[UUID, Report] = {}
        for number, line in enumerate(self._path.read_bytes().split(b"\n") if self._path.exists() else (), 1):
            if line.strip():
                try:
                    report = Report.from_json(json.loads(line))
                    found[report.report_id] = report
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    _log.warning("%s, line %d is passed over: %s", self._path, number, error)
        return found

    def _drop_strangers(self) -> None:
        """Delete pictures of no report: a crash came between a picture and its line."""
        known = {e.file for r in self._reports.values() for e in r.evidence}
        for path in (self.folder / PICTURES).iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)

    def _size_of(self, report: Report) -> int:
        size = len(_line(report))
        for evidence in report.evidence:
            with contextlib.suppress(OSError):
                size += self.path_of(evidence).stat().st_size
        return size

    def _files(self) -> Iterator[Path]:
        yield from (p for p in (self.folder / PICTURES).iterdir() if p.is_file())
        if self._path.exists():
            yield self._path


def _line(report: Report) -> bytes:
    return json.dumps(report.to_json(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise

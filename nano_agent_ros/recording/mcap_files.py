"""The MCAP library, which only recording and replay need, and what they need of it.

Format: https://mcap.dev/spec. Messages are JSON with a JSON schema, so that Foxglove opens a log without this package.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nano_agent_ros.errors import ConfigError, NanoAgentError

HOW = "logs need the MCAP library: pip install 'nano_agent_ros[record]' (or mcap)"
CHUNK_BYTES = 256 * 1024
LONGEST_RECORD = 1 << 28
_END = b"\x89MCAP0\r\n"


class LogError(NanoAgentError):
    """A log that cannot be read or written; the message names the file."""


@dataclass(frozen=True)
class Entry:
    """A message of a log: `time` in nanoseconds since 1970, by the clock of the recording node."""

    topic: str
    time: int
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Recording:
    """A log as it was read. `whole` is False if its end is missing; what was there before counts all the same."""

    entries: tuple[Entry, ...]
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True


class McapFile:
    """One file that is being written. What was written before `flush` survives the process being killed."""

    def __init__(self, path: Path, attachments: Mapping[str, bytes], metadata: Mapping[str, str], time: int) -> None:
        """Begin a file; raises OSError, or ConfigError without the library."""
        self.path = path
        writer_module = _library("mcap.writer")
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._writer = writer_module.Writer(self._file, chunk_size=CHUNK_BYTES)
        self._writer.start(profile="", library="nano_agent_ros")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._written = 0
        try:
            self._writer.add_metadata("nano_agent_ros", dict(metadata))
            for name, content in attachments.items():
                self._writer.add_attachment(time, time, name, "application/yaml", content)
            self.flush()
        except OSError:
            self.abandon()
            path.unlink(missing_ok=True)
            raise

    @property
    def nbytes(self) -> int:
        """Size on disk and of what waits to be flushed, before compression."""
        return self._file.tell() + self._written

    def write(self, entry: Entry, schema_name: str, schema: Mapping[str, Any]) -> None:
        """Add a message; `schema` is the JSON schema of its topic."""
        if entry.topic not in self._channels:
            if schema_name not in self._schemas:
                content = json.dumps(schema).encode()
                self._schemas[schema_name] = self._writer.register_schema(schema_name, "jsonschema", content)
            self._channels[entry.topic] = self._writer.register_channel(entry.topic, "json", self._schemas[schema_name])
        data = json.dumps(entry.content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        self._writer.add_message(self._channels[entry.topic], entry.time, data, entry.time)
        self._written += len(data)

    def flush(self) -> None:
        """Hand all that was written to the system."""
        self._writer.flush()
        self._written = 0

    def close(self) -> None:
        """Write the index, which viewers need to jump in the file, and close it."""
        try:
            self._writer.finish()
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Close a file that could not be written to its end."""
        with contextlib.suppress(OSError):  # what its buffer still held does not fit either
            self._file.close()


def read(path: Path) -> Recording:
    """Read a log, as far as it is whole; raises LogError if it is none."""
    entries: list[Entry] = []
    attachments: dict[str, bytes] = {}
    metadata: dict[str, str] = {}
    records = _library("mcap.records")
    channels: dict[int, str] = {}
    whole = False
    try:
        with path.open("rb") as file:
            for record in _records(file):
                if isinstance(record, records.Channel):
                    channels[record.id] = record.topic
                elif isinstance(record, records.Message):
                    content = json.loads(record.data)
                    entries.append(Entry(channels[record.channel_id], record.log_time, content))
                elif isinstance(record, records.Attachment):
                    attachments[record.name] = bytes(record.data)
                elif isinstance(record, records.Metadata):
                    metadata |= record.metadata
                elif isinstance(record, records.DataEnd):
                    whole = True
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from None
    except _NotMcap:
        raise LogError(f"{path}: this is no MCAP file") from None
    except (KeyError, ValueError) as error:
        raise LogError(f"{path}: not a log of nano_agent_ros ({error})") from None
    return Recording(tuple(entries), attachments, metadata, whole)


def is_finished(path: Path) -> bool:
    """Whether a file has its end."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(max(0, size - len(_END)))
        return size > 2 * len(_END) and file.read() == _END


def recover(path: Path) -> bool:
    """Write a file anew that has no end, as a whole one; False if there was nothing in it, and then it is deleted."""
    recording = read(path) if path.stat().st_size > len(_END) else Recording(())
    if not recording.entries:
        path.unlink()
        return False
    schemas = _schemas(path)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    file = McapFile(temporary, recording.attachments, recording.metadata, recording.entries[0].time)
    try:
        for entry in recording.entries:
            file.write(entry, *schemas[entry.topic])
        file.close()
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return True


class _NotMcap(Exception):
    pass


class _Bounded:
    """A file of which nobody reads more than there is: a damaged length would ask for any amount of memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        if size > self._left:
            raise EOFError
        self._left -= size
        return self._file.read(size)


def _records(file: IO[bytes]) -> Iterator[Any]:
    """The records of a file up to where it is torn off or damaged."""
    reader = _library("mcap.stream_reader")
    exceptions = _library("mcap.exceptions")
    zstandard = _library("zstandard")
    ours = (exceptions.McapError, reader.CRCValidationError, zstandard.ZstdError)
    torn = (*ours, struct.error, EOFError, IndexError, UnicodeDecodeError, MemoryError, OverflowError)
    try:
        stream = reader.StreamReader(_Bounded(file), validate_crcs=True, record_size_limit=LONGEST_RECORD).records
        first = next(stream, None)
    except torn:
        raise _NotMcap from None
    if first is None:
        raise _NotMcap
    yield first
    while True:
        try:
            record = next(stream)
        except (StopIteration, *torn):
            return
        yield record


def _schemas(path: Path) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name and content of the schema of each topic."""
    records = _library("mcap.records")
    schemas: dict[int, tuple[str, Mapping[str, Any]]] = {}
    topics: dict[str, tuple[str, Mapping[str, Any]]] = {}
    with path.open("rb") as file:
        for record in _records(file):
            if isinstance(record, records.Schema):
                schemas[record.id] = (record.name, json.loads(record.data))
            elif isinstance(record, records.Channel):
                topics[record.topic] = schemas[record.schema_id]
    return topics


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{HOW}: {error}") from None

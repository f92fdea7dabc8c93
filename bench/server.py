"""llama.cpp's server as a peer: started, asked, stopped."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .llama import PeerError

START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 900.0


class LlamaServer:
    """A llama-server with one conversation slot and its prompt cache on; use as a context manager."""

    def __init__(self, binary: Path, gguf: Path, threads: int, context: int) -> None:
        """`context`: tokens of conversation to make room for."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._command = [
            str(binary), "-m", str(gguf), "-t", str(threads), "-tb", str(threads), "-c", str(context), "-np", "1",
            "--host", "127.0.0.1", "--port", str(self._port), "--no-webui",
        ]  # fmt: skip

    def __enter__(self) -> LlamaServer:
        """Start the server and wait until it answers. Raises PeerError."""
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log, text=True)
        begun = time.monotonic()
        while time.monotonic() - begun < START_TIMEOUT_S and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self._stop()
        raise PeerError(f"{' '.join(self._command)} did not start: {self._said()}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def complete(self, prompt: Sequence[int], count: int, **more: Any) -> dict[str, Any]:
        """Its answer to a prompt of token ids, at most `count` tokens, with the prompt cache. Raises PeerError."""
        asked = {
            "prompt": list(prompt), "n_predict": count, "cache_prompt": True, "temperature": 0.0, "samplers": [],
            "return_tokens": True, "id_slot": 0, **more,
        }  # fmt: skip
        url, kind = f"http://127.0.0.1:{self._port}/completion", {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(asked).encode(), kind)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise PeerError(f"llama-server refused: {error.read().decode(errors='replace')[:500]}") from error
        except (urllib.error.URLError, OSError) as error:
            raise PeerError(f"llama-server does not answer ({error}): {self._said()}") from error

    def timed(self, prompt: Sequence[int], count: int, **more: Any) -> tuple[dict[str, Any], float]:
        """As `complete`, and the seconds that it took."""
        begun = time.perf_counter()
        answer = self.complete(prompt, count, **more)
        return answer, time.perf_counter() - begun

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read().strip()[-500:]

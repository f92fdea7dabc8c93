"""Pictures from ROS messages and files, as arrays [height, width, 3] of uint8 in the order blue, green, red.

What cv_bridge does, for the encodings that cameras use, without it. Sources: sensor_msgs/image_encodings.hpp, ITU-T
T.81 (JPEG markers), the PNG specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nano_agent_ros.errors import NanoAgentError
from nano_agent_ros.inspection.opencv import opencv

Frame = NDArray[np.uint8]

MIN_SIDE, MAX_PIXELS = 32, 64_000_000
ENCODINGS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    # bytes of a channel, channels, where blue, green and red are among them
    "mono8": (1, 1, (0, 0, 0)),
    "8UC1": (1, 1, (0, 0, 0)),
    "rgb8": (1, 3, (2, 1, 0)),
    "bgr8": (1, 3, (0, 1, 2)),
    "8UC3": (1, 3, (0, 1, 2)),
    "rgba8": (1, 4, (2, 1, 0)),
    "bgra8": (1, 4, (0, 1, 2)),
    "8UC4": (1, 4, (0, 1, 2)),
    "mono16": (2, 1, (0, 0, 0)),
    "16UC1": (2, 1, (0, 0, 0)),
}
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_FRAME_HEADERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))


class ImageError(NanoAgentError):
    """A picture that cannot be used; the message says what is wrong with it."""


def from_raw(encoding: str, height: int, width: int, step: int, big_endian: bool, data: Any) -> Frame:
    """The picture of a sensor_msgs/Image: `step` bytes a row, of which those after the last pixel are padding.

    Pictures of 16 bits are stretched from their 0.5th to their 99.5th percentile. Raises ImageError.
    """
    if encoding not in ENCODINGS:
        raise ImageError(f"encoding '{encoding[:40]}' is not supported; these are: {', '.join(ENCODINGS)}")
    size, channels, order = ENCODINGS[encoding]
    _check_size(width, height)
    row = width * channels * size
    raw = np.frombuffer(data, dtype=np.uint8)
    if step < row:
        raise ImageError(f"step {step} is less than the {row} bytes of a row of {width} pixels in {encoding}")
    if raw.size < step * (height - 1) + row:
        raise ImageError(f"{raw.size} bytes are too few for {width} x {height} pixels in {encoding}")
    if raw.size < step * height:  # some drivers leave out the padding of the last row
        raw = np.concatenate([raw, np.zeros(step * height - raw.size, dtype=np.uint8)])
    rows = raw[: step * height].reshape(height, step)[:, :row]
    if size == 2:
        rows = _stretched(np.ascontiguousarray(rows).view(">u2" if big_endian else "<u2"))
    return np.ascontiguousarray(rows.reshape(height, width, channels)[:, :, list(order)])


def from_compressed(data: Any) -> Frame:
    """The picture of a sensor_msgs/CompressedImage, or of a file: a whole JPEG or PNG. Raises ImageError.

    What was cut off is refused: decoders fill the rest with grey and say nothing.
    """
    content = bytes(data)
    if content.startswith(_JPEG):
        width, height = _jpeg_size(content)
    elif content.startswith(_PNG):
        if _PNG_END not in content[-64:]:
            raise ImageError("the PNG is cut off: its end is missing")
        width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    else:
        raise ImageError(f"{len(content)} bytes that are neither JPEG nor PNG")
    _check_size(width, height)
    cv = opencv()
    try:
        image = cv.imdecode(np.frombuffer(content, dtype=np.uint8), cv.IMREAD_UNCHANGED)
    except cv.error as error:
        raise ImageError(f"the picture cannot be decoded: {error.err}") from None
    if image is None:
        raise ImageError("the picture cannot be decoded")
    if image.dtype == np.uint16 and image.ndim == 2:
        image = _stretched(image)
    elif image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 2:  # grey with transparency
        image, channels = image[:, :, 0], 1
    return image[:, :, :3].copy() if channels >= 3 else np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)


def to_file(frame: Frame, suffix: str, quality: int = 90) -> bytes:
    """The picture as the bytes of a .jpg or .png file."""
    cv = opencv()
    options = [cv.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    done, content = cv.imencode(suffix, frame, options)
    if not done:
        raise ImageError(f"the picture of {frame.shape[1]} x {frame.shape[0]} pixels cannot be written as {suffix}")
    return bytes(content.tobytes())


def _check_size(width: int, height: int) -> None:
    if width * height == 0:
        raise ImageError(f"the picture is empty ({width} x {height} pixels)")
    if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels: at least {MIN_SIDE} a side and at most {MAX_PIXELS} in all")


def _stretched(image: NDArray[Any]) -> Frame:
    low, high = np.percentile(image, (0.5, 99.5))
    scaled = (image.astype(np.float32) - low) * (255.0 / max(high - low, 1.0))
    return np.clip(scaled + 0.5, 0, 255).astype(np.uint8)


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height by the frame header, of a JPEG whose end is there."""
    size, at = (0, 0), 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            raise ImageError("the JPEG is damaged: a marker is missing")
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in _FRAME_HEADERS and at + 9 <= len(content):
            size = int.from_bytes(content[at + 7 : at + 9], "big"), int.from_bytes(content[at + 5 : at + 7], "big")
        if marker == 0xDA:  # the coded picture: from here on FF D9 can only be the end
            if content.find(b"\xff\xd9", at + 2 + length) < 0:
                break
            return size
        at += 2 + length
    raise ImageError("the JPEG is cut off: its end is missing")

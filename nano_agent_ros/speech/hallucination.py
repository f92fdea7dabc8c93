"""What Whisper makes up where nobody spoke: sounds that are not worth transcribing, and texts that are not believed."""

from __future__ import annotations

import re
import unicodedata
import zlib

import numpy as np

from nano_agent_ros.speech.audio import SAMPLE_RATE
from nano_agent_ros.speech.levels import SILENCE_PEAK_DBFS

MIN_AUDIO_S = 0.1
FRAME_S = 0.02
STEADY_DB = 3.0
"""Sound whose loud frames are no more than this above its quiet ones is a fan or a hiss. Speech that is as loud as the
noise around it still comes to more than twice that."""

MAX_WORDS_PER_S = 8.0
MAX_LETTERS_PER_S = 40.0
"""Nobody speaks faster; a longer text is a decoding loop."""

MAX_COMPRESSION = 2.4
"""Text that zlib shortens by more repeats itself (Whisper's own measure)."""

DOUBTED = 0.5
"""From this no_speech_prob on, or below this confidence, FILLINGS are not believed."""

NOTHING_NO_SPEECH, NOTHING_LOGPROB = 0.6, -1.0
"""Whisper's own measure of silence: no_speech_prob above, and mean log probability below."""

CREDITS = (
    "amara org", "amaraorg", "subtitles by", "subtitled by", "captions by", "captioned by", "transcription by",
    "untertitel im auftrag", "untertitel der amara", "untertitelung", "untertitel von", "sous titres realises",
    "sous titrage", "sous titres par", "subtitulos realizados", "subtitulos por", "sottotitoli creati",
    "sottotitoli a cura", "sottotitoli e revisione", "legendas pela comunidade", "legendado por", "legenda adriana",
    "ondertiteld door", "ondertiteling", "napisy stworzone", "napisy wykonane", "titulky vytvoril", "undertexter fran",
    "undertexter av", "tekstet av", "danske tekster", "altyazi m k", "субтитры", "редактор субтитров",
    "продолжение следует", "字幕", "請不吝點贊", "请不吝点赞", "ご視聴ありがとうございました", "チャンネル登録",
    "시청해 주셔서 감사합니다", "시청해주셔서 감사합니다", "ترجمة نانسي", "اشتركوا في القناة", "υποτιτλοι authorwave",
    "thank you for watching", "thanks for watching", "thank you very much for watching",
    "thank you so much for watching", "subscribe to my channel", "like and subscribe", "dont forget to subscribe",
    "see you in the next video", "danke furs zuschauen", "vielen dank furs zuschauen",
    "merci d avoir regarde cette video", "gracias por ver el video", "obrigado por assistir",
    "grazie per la visione", "bedankt voor het kijken", "dziekuje za obejrzenie", "спасибо за просмотр",
)  # fmt: skip
"""What ends videos and is never said to a robot; a text that has it is not believed, however sure Whisper is. Without
accents and punctuation."""

FILLINGS = frozenset(
    {
        "thank you", "thank you very much", "thank you so much", "thanks", "please subscribe", "see you next time",
        "see you", "bye", "bye bye", "goodbye", "you", "so", "oh", "ah", "hmm", "mm", "uh", "the", "i", "music",
        "applause", "laughter", "blank audio", "silence", "okay", "ok", "yeah", "well", "and", "but", "danke",
        "vielen dank", "tschuss", "bis zum nachsten mal", "merci", "merci beaucoup", "a bientot", "gracias",
        "muchas gracias", "adios", "grazie", "ciao", "obrigado", "tchau", "bedankt", "dank je", "tot ziens",
        "dziekuje", "tack", "takk", "спасибо", "пока", "谢谢", "謝謝", "ありがとうございました", "감사합니다",
    }
)  # fmt: skip
"""What Whisper writes on noise as well as on speech: believed only if it is sure."""


def unhearable(samples: np.ndarray) -> str:
    """Return why audio, float32 [n] at 16 kHz, is not worth transcribing; "" if it is."""
    if samples.ndim != 1:
        return f"audio of shape {samples.shape} is not mono"
    if samples.size < MIN_AUDIO_S * SAMPLE_RATE:
        return f"too short: {samples.size / SAMPLE_RATE:.2f} s"
    if not np.isfinite(samples).all():
        return "audio holds samples that are not finite"
    if np.abs(samples).max() < 10 ** (SILENCE_PEAK_DBFS / 20):
        return "silent"
    range_db = dynamics_db(samples)
    if range_db < STEADY_DB:
        return f"steady noise: loud and quiet parts differ by {range_db:.1f} dB"
    return ""


def dynamics_db(samples: np.ndarray) -> float:
    """Return by how many dB the loudest twentieth of the frames of FRAME_S exceeds the quietest tenth."""
    size = round(FRAME_S * SAMPLE_RATE)
    frames = samples[: samples.size // size * size].reshape(-1, size)
    power = np.mean(frames.astype(np.float64) ** 2, axis=1) + 1e-12
    quiet, loud = np.percentile(power, [10, 95])
    return float(10 * np.log10(loud / quiet))


def believable(
    text: str, no_speech_prob: float, audio_s: float, hotwords: str = "", confidence: float = 1.0
) -> tuple[str, str]:
    """Return (text, "") with loops collapsed, or ("", reason) for what Whisper makes up on noise."""
    long, text = text, collapse_repeats(text)
    words = _words(text)
    plain = " ".join(words)
    if not words:
        return "", "no words"
    if no_speech_prob > NOTHING_NO_SPEECH and confidence < np.exp(NOTHING_LOGPROB):
        return "", f"no speech ({no_speech_prob:.2f}) in {text!r}"
    if len(words) > 3 + MAX_WORDS_PER_S * audio_s or len(plain) > 20 + MAX_LETTERS_PER_S * audio_s:
        return "", f"{len(words)} words, {len(plain)} letters in {audio_s:.1f} s"
    if len(long) > 60 and compression(text) > MAX_COMPRESSION:
        return "", f"repeats itself (compression {compression(text):.1f}): {text[:60]!r}"
    if any(f" {credit} " in f" {plain} " or (not credit.isascii() and credit in plain) for credit in _CREDITS):
        return "", f"phantom phrase {text!r}"
    if plain in _FILLINGS and (no_speech_prob >= DOUBTED or confidence < DOUBTED):
        return "", f"phantom phrase {text!r} (no_speech_prob {no_speech_prob:.2f}, confidence {confidence:.2f})"
    if len(words) >= 4 and f" {plain} " in f" {' '.join(_words(hotwords))} ":
        return "", f"echo of the hotwords {text!r}"
    return text, ""


def compression(text: str) -> float:
    """Return by what factor zlib shortens the text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _words(text: str) -> list[str]:
    """Lower case without accents and punctuation; an apostrophe joins."""
    plain = unicodedata.normalize("NFKD", re.sub("['’]", "", text.casefold()))
    return re.sub(r"[^\w\s]|_", " ", "".join(c for c in plain if not unicodedata.combining(c))).split()


def collapse_repeats(text: str, longest: int = 8, allowed: int = 3) -> str:
    """Return the text with every run of more than `allowed` equal n-grams (n <= longest) reduced to one of them."""
    words = text.split()
    keys = [re.sub(r"\W", "", word.casefold()) for word in words]
    for n in range(1, longest + 1):
        kept_words: list[str] = []
        kept_keys: list[str] = []
        i = 0
        while i < len(words):
            gram = keys[i : i + n]
            run = 1
            while keys[i + run * n : i + (run + 1) * n] == gram:
                run += 1
            step = run * n if run > allowed else 1
            width = n if run > allowed else 1
            kept_words += words[i : i + width]
            kept_keys += keys[i : i + width]
            i += step
        words, keys = kept_words, kept_keys
    return " ".join(words)


_CREDITS = tuple(" ".join(_words(credit)) for credit in CREDITS)
_FILLINGS = frozenset(" ".join(_words(filling)) for filling in FILLINGS)

"""The few words that are understood without the model: yes, no, and the release of a stop."""

from __future__ import annotations

import re

_YES = """yes yeah yep yup sure ok okay confirm confirmed affirmative absolutely definitely correct right exactly certainly
of course|go ahead|do it|please do|go for it|that is right|thats right|sounds good|go on|proceed"""
_NO = """no nope nah negative cancel abort never
never mind|do not|dont|do not do it|dont do it|do not do that|dont do that|please dont|forget it|leave it|not now|no way"""
_RELEASE = """resume continue proceed
carry on|go on|resume work|resume now|you can go on|you can continue|you may continue|you can move|you may move|
you can move again|release stop|release the stop|stop released|all clear|its clear|it is clear|its safe now"""
_FILLERS = "please robot thanks thank you now just and um uh well hey then that it".split()


def _phrases(text: str) -> list[list[str]]:
    singles, _, rest = text.partition("\n")
    return sorted([p.split() for p in [*singles.split(), *rest.replace("\n", "").split("|")] if p], key=len, reverse=True)


def _made_of(text: str, phrases: list[list[str]]) -> bool:
    """Whether the text is one or more of the phrases and fillers, and nothing else."""
    words = re.findall(r"[a-z]+", text.lower().replace("'", "").replace("’", ""))
    found, at = False, 0
    while at < len(words):
        phrase = next((p for p in phrases if words[at : at + len(p)] == p), None)
        if phrase is None and words[at] not in _FILLERS:
            return False
        found = found or phrase is not None
        at += len(phrase) if phrase else 1
    return found


def is_yes(text: str) -> bool:
    """Whether the whole utterance agrees: "yes please, go ahead". "Yes, but slowly" does not."""
    return _made_of(text, _phrases(_YES))


def is_no(text: str) -> bool:
    """Whether the whole utterance declines: "no, don't"."""
    return _made_of(text, _phrases(_NO))


def is_release(text: str) -> bool:
    """Whether the whole utterance lets a stopped robot move again: "okay, you can move again" ."""
    return _made_of(re.sub(r"^\W*(ok|okay|alright|all right)\b", "", text.lower()), _phrases(_RELEASE))

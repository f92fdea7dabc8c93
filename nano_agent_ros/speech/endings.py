"""Tables for complete.py: words that no sentence ends in, by language, and the shapes of whole English commands."""

from __future__ import annotations

HESITATIONS = "um umm uh uhm uhh er erm ehm eh ah hmm hm mm mhm äh ähm euh heu eee"

OPENERS = {
    "en": "a an the to at in into onto of for from by with without between behind under near towards toward until till"
    " past via and or but nor because if when while where than as so my your our their his its is are was were"
    " am be been will would should could must shall may might not every each some which whose whether per"
    " plus",
    "de": "der die das den dem des ein eine einen einem einer und oder aber weil wenn dass zu zum zur in im ins an am"
    " auf aus bei mit nach von vom für über unter zwischen bis dann mein meine dein deine ist sind",
    "fr": "le la les l un une des du de d à au aux et ou mais si que qui quand dans en sur sous avec pour par vers"
    " chez entre puis mon ma mes ton ta tes est sont",
    "es": "el la los las un una unos unas de del a al y e o u pero si que cuando en con por para hacia hasta entre"
    " desde luego mi tu su es son está",
    "it": "il lo la i gli le un uno una di del della a al alla da dal in nel nella con su sul per tra fra e o ma se"
    " che poi mio mia tuo tua è sono",
    "nl": "de het een en of maar want als dat naar in op aan bij met van voor over onder tussen tot dan mijn is zijn",
    "pt": "o a os as um uma de do da dos das ao à e ou mas se que quando em no na com por para até entre depois meu"
    " minha é são está",
}
"""Articles, prepositions, conjunctions, possessives and auxiliaries by ISO 639-1 code. Words that may end a sentence as
well ("pick it up", "hold on", "cancel that") are left out."""

WANTING = (
    "go drive bring take carry fetch grab get pick put place push pull deliver inspect set find count patrol guide"
    " report attach detach unload load navigate head"
)
"""English verbs behind which an object or a place must follow."""

BEFORE_AN_AMOUNT = (
    "forward forwards back backward backwards ahead left right for by about another up down wait turn move drive"
    " rotate reverse raise lower only roughly"
)
"""English words behind which a number is an amount, whose unit must follow."""

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
)
LARGE = "thirty forty fifty sixty seventy eighty ninety hundred thousand half quarter"

NUMBER = r"(?:\d+(?:[.,]\d+)?|half an?|1 and a half|(?:20|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?: \d)?)"
LENGTH = r"(?:m|cm|meters?|metres?|centimeters?|centimetres?|feet|foot|inch(?:es)?)"
TIME = r"(?:s|seconds?|secs?|minutes?|mins?|hours?)"
RATE = rf"(?:{NUMBER} percent|{NUMBER} {LENGTH} (?:per|a) second)"
AHEAD = r"(?:forwards?|ahead|back|backwards?)"
ROUND = r"(?:left|right|clockwise|counterclockwise|anticlockwise)"
AMOUNTS = (
    rf"(?:wait|stay|pause) (?:here |there )?(?:for )?(?:{NUMBER}|an?) {TIME}",
    rf"(?:slow down|speed up) to {RATE}",
    rf"(?:raise|lower|lift) .+ by {NUMBER} {LENGTH}",
    rf"(?:drive|move|go|roll|come)(?: straight)? {AHEAD}(?: by| for)? {NUMBER} {LENGTH}",
    rf"(?:drive|move|go|roll) {NUMBER} {LENGTH} {AHEAD}",
    rf"(?:back up|reverse) (?:by )?{NUMBER} {LENGTH}",
    rf"(?:turn|rotate|spin) (?:to the )?{ROUND}(?: by)? {NUMBER} degrees?",
    rf"(?:turn|rotate|spin) {NUMBER} degrees? (?:to the )?{ROUND}",
    rf"(?:set|change|limit) (?:the |your )?speed to {RATE}",
    rf"(?:drive|go|move) (?:at|with) {RATE}",
)
"""Commands that an amount closes, with SMALL numbers as digits."""

SET_PHRASES = (
    "pause", "pause the task", "pause there", "cancel", "cancel that", "cancel it", "cancel everything",
    "cancel the task", "abort the task", "never mind", "nevermind", "forget it", "forget that", "forget about it",
    "slow down", "slow down a bit", "slow down a little", "go slower", "drive slower", "not so fast", "come here",
    "come to me", "turn around", "turn all the way around", "go and charge", "go charge", "go charge yourself",
    "dock and charge", "thank you", "thanks",
    "thank you very much", "where are you", "where are you going", "where are you now", "what are you doing",
    "what are you carrying", "what can you do", "how are you", "hows your battery", "how is your battery",
    "how is the battery", "whats your battery level", "what is your battery level",
    "how much battery do you have left", "how much battery is left",
    "how full is your battery", "are you free", "are you busy", "are you done",
    "are you ready", "can you hear me", "did you hear me", "are you there",
)  # fmt: skip
"""Whole as they are. "Yes" and "resume" are not among them: a word that sets the robot in motion waits the ordinary
pause, and so does "no", which is often the beginning of a correction."""

LEADS = (
    r"(?:hey|hi|hello|ok|okay|yo|please|now|so|well|alright|right|and|then|next|first|just|(?:can|could|would|will)"
    r" you|i want you to|i need you to|you should|lets|let us)"
)
CALLS = r"(?:hey|hi|hello|yo|(?:can|could|would|will) you|i want you to|i need you to|you should|lets|let us)"
TAILS = r"(?:please|thanks|thank you|now|right now|again|for me|quickly|slowly|immediately|at once|too|okay|ok)"
VERBS = (
    r"(?:go|drive|head|move|come|navigate|return|proceed|travel|get|run|park|wait|meet|bring|take|carry|deliver|put|"
    r"place|set|push|pull|transport|fetch|drop|pick|load|unload|guide|lead|show|search|look|count|check|inspect|find|"
    r"attach|detach|couple|uncouple|hook|unhook)"
)
WHERE = r"(?:to|into|onto|towards?|in|at|on|by|near)"
TO = r"(?:to|into|onto|towards?)"
"""A command that begins with one of VERBS is whole if it ends in WHERE and a place; in TO and a place if it has said
"from" or "past" or the like before."""

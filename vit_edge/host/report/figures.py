"""How figures and verdicts stand on the page."""

from markupsafe import Markup

from vit_edge.spec import Verdict
from vit_edge.verify import words

NONE = "\N{EN DASH}"  # stands where there is no figure
TIMES = "\N{MULTIPLICATION SIGN}"


def percent(value: float | None) -> str:
    """Of something measured in percent."""
    return words.percent(value, NONE)


def decibel(value: float | None) -> str:
    """A ratio; infinite where nothing differs."""
    return NONE if value is None else words.decibel(value)


def verdict_word(verdict: Verdict) -> Markup:
    """PASS, FAIL or UNDECIDED in its colour."""
    return Markup('<span class="word {}">{}</span>').format(verdict.value.lower(), verdict.value)


def code(text: str) -> Markup:
    """Such as a hash, to be copied."""
    return Markup("<code>{}</code>").format(text)

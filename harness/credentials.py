"""Secrets that get into text by accident, known by their form: never packed into a bundle, never shown in a report."""

import re
from collections.abc import Iterator

# Kind → how it is written. The group `secret`, or else all that matches, must not be shown.
VALUE = (  # of a password: with a digit, or no piece of code such as `os.environ`
    r"(?P<secret>(?=\S{0,200}\d)[^\s\"',;<>(){}\[\]\\]{6,}|[^\s\"',;<>(){}\[\].\\]{6,}(?![\w.(\[]))"
)
FORMS = {
    "a private key": r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?P<secret>[^-]*)",
    "a token of Hugging Face": r"\bhf_[A-Za-z0-9]{20,}",
    "a token of GitHub": r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
    "a token of GitLab": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "an access key of AWS": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a key of OpenAI or Anthropic": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a token of Slack": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "an authorization": (
        r"(?i:\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(\w{1,20} )?|\bbearer )"
        r"(?P<secret>[A-Za-z0-9._~+/=-]{8,})"
    ),
    "a password in an address": r"://[^\s/:@\"']{1,100}:(?P<secret>[^\s/@\"']{1,200})(?=@)",
    "a key, token or password": (
        r"(?i:(api_?key|secret|access_?key|auth_?token|access_?token|passw(or)?d)"
        r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)"
    )
    + VALUE,
    "a token": r"(_TOKEN|_KEY|_SECRET)\s{0,3}[:=]\s{0,3}[\"']?" + VALUE,
}
PATTERNS = {kind: re.compile(form) for kind, form in FORMS.items()}
# Each form has one of these words, in any case, and most texts have none.
SIGNS = (
    "-----begin", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "asia", "sk-", "xox",
    "authorization", "bearer", "://", "key", "secret", "token", "passw",
)  # fmt: skip
MASK = "[secret left out]"


def is_suspect(text: str) -> bool:
    """Tell quickly whether a text may hold a secret."""
    lower = text.lower()
    return any(map(lower.__contains__, SIGNS))


def secrets_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line, from 1, and the kind of each secret in a text; never the secret."""
    if is_suspect(text):
        for kind, pattern in PATTERNS.items():
            for match in pattern.finditer(text):
                yield text.count("\n", 0, match.start()) + 1, kind


def masked(text: str) -> str:
    """Return a text in which `MASK` stands for each secret."""
    if is_suspect(text):
        for pattern in PATTERNS.values():
            text = pattern.sub(_mask, text)
    return text


def _mask(match: re.Match[str]) -> str:
    """Leave the words before a secret, which tell what it was."""
    name = "secret" if "secret" in match.re.groupindex else 0
    return match[0][: match.start(name) - match.start()] + MASK

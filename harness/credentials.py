"""Secrets that get into text by accident, known by their form: never packed into a bundle, never shown in a report.

Our own patterns: detect-secrets 1.5 finds no token of Hugging Face, no `Bearer`, no .netrc and no `--token`, takes the
commits in our results for secrets unless its entropy is off, masks nothing, and brings requests.
"""

import re
from collections.abc import Iterator

# Kind → how it is written. The group `secret`, or else all that matches, must not be shown.
VALUE = (  # of a password: with a digit, or no piece of code such as `os.environ`; not `$PASSWORD` and ****
    r"(?P<secret>(?![$%*<]|x{4})"
    r"((?=\S{0,200}\d)[^\s\"',;<>(){}\[\]\\]{6,}|[^\s\"',;<>(){}\[\].\\]{6,}(?![\w.(\[])))"
)
RANDOM = (
    r"(?P<secret>\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])(?=(\w{0,60}\d){2})[A-Za-z0-9]{20,}\b|\bwandb_v1_\w{10,})"  # no word
)
SPACE = r"[\s+]{1,20}"  # also of a diff's added lines
NAME = r"(api[_ -]?key|secret|access[_-]?key|account_?key|auth[_-]?token|access[_-]?token|passw(or)?d|passphrase)"
GIVEN = r"[\"']?\s{0,3}(:=|[:=])\s{0,3}[\"']?"
FORMS = {
    "a private key": r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?P<secret>[^-]*)",
    "a token of Hugging Face": r"\bhf_[A-Za-z0-9]{20,}",
    "a token of GitHub": r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
    "a token of GitLab": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "an access key of AWS": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a key of OpenAI or Anthropic": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a key of Google": r"\bAIza[0-9A-Za-z_-]{35}",
    "a token of PyPI": r"\bpypi-[A-Za-z0-9_-]{20,}",
    "a token of npm": r"\bnpm_[A-Za-z0-9]{20,}",
    "a token of Slack": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}(\.[A-Za-z0-9_-]{0,2000})?",
    "an authorization": (
        r"(?i:\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(\w{1,20} )?|\bbearer )"
        r"(?P<secret>[A-Za-z0-9._~+/=-]{8,})"
    ),
    "a password in an address": r"://[^\s/:@\"']{1,100}:(?P<secret>[^\s/@\"']{1,200})(?=@)",
    "a password of a .netrc": (
        rf"(?i:\b(machine{SPACE}\S{{1,200}}|default){SPACE}login{SPACE}\S{{1,200}}{SPACE}password{SPACE})"
        r"(?P<secret>\S{1,200})"
    ),
    "a key, token or password": rf"(?i:{NAME}{GIVEN}|--(token|key|pass){GIVEN})" + VALUE,
    "a key, token or password after its name": (
        rf"(?i:({NAME}|_token|_key)[\"']?( (is|was|as|provided:)|:?)\s[\"']?|--(token|key|pass)\s[\"']?)" + RANDOM
    ),
    "a token": rf"(_TOKEN|_KEY|_SECRET){GIVEN}" + VALUE,
    "a key": rf"(?i:\b\w{{0,30}}(token|key|secret|pwd|pass){GIVEN})" + RANDOM,
    "a key of a login": r"(?i:\blogin\b[^\n]{0,80}?[\s\"'(=])" + RANDOM,
}
PATTERNS = {kind: re.compile(form) for kind, form in FORMS.items()}
# Each form has one of these words, in any case, and most texts have none.
SIGNS = (
    "-----begin", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "asia", "sk-", "xox",
    "authorization", "bearer", "://", "key", "secret", "token", "pass", "pwd", "login", "aiza",
    "pypi-", "npm_", "eyj",
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

"""Secrets are known by their form, each with its line; what only looks like code is none."""

import time

import pytest

from harness.credentials import MASK, masked, secrets_in

LETTERS = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SECRETS = {
    "WANDB_API_KEY=" + LETTERS: LETTERS,
    "export HF_TOKEN='hf_" + LETTERS + "'": "hf_" + LETTERS,
    "remote: https://x:ghp_" + LETTERS + "@github.com/a/b": "ghp_" + LETTERS,
    "github_pat_" + LETTERS: "github_pat_" + LETTERS,
    "aws AKIA" + "ABCDEFGH12345678 is mine": "AKIA" + "ABCDEFGH12345678",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n" + LETTERS: LETTERS,
    "Authorization: Bearer " + LETTERS: LETTERS,
    "-H 'authorization: token " + LETTERS + "'": LETTERS,
    "mysql --password=hunter2x now": "hunter2x",
    'db = {"passwd": "correcthorse"}': "correcthorse",
    "postgres://me:hunter2x@db/one": "hunter2x",
    f'wandb.login(key="{LETTERS}")': LETTERS,
    f"wandb login --relogin {LETTERS}": LETTERS,
    f"+machine api.wandb.ai\n+  login user\n+  password {LETTERS[:9]}\n": LETTERS[:9],
    f"default login me password {LETTERS[:9]}": LETTERS[:9],
    f"python x.py --token={LETTERS[:9]} --epochs 3": LETTERS[:9],
    f"hf upload --token {LETTERS}": LETTERS,
    f"curl -H 'X-Api-Key: {LETTERS[:9]}'": LETTERS[:9],
    f"ValueError: WANDB_API_KEY is {LETTERS}": LETTERS,
    f"the API key was {LETTERS}": LETTERS,
    f"AccountKey={LETTERS}==;EndpointSuffix": LETTERS,
    f'hf_token: str = ""\nmy_pwd := "{LETTERS}"': LETTERS,
    "AIza" + LETTERS[:35]: LETTERS[:35],
    "pypi-" + LETTERS: LETTERS,
    "npm_" + LETTERS: LETTERS,
    f"eyJ{LETTERS}.eyJ{LETTERS}.{LETTERS}": LETTERS,
}


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_found_with_its_line_and_masked(text: str) -> None:
    found = list(secrets_in(f"one\ntwo\n{text}"))
    assert found
    assert 3 <= min(line for line, _ in found) <= max(line for line, _ in found) <= 4
    assert MASK in masked(text)
    assert SECRETS[text] not in masked(text)
    assert not any(SECRETS[text] in kind for _, kind in found)


@pytest.mark.parametrize(
    "text",
    ["key = os.environ['WANDB_API_KEY']", "password = getpass.getpass()", "token: 12", "13 tokens, 12 keys", "hf_model",
     "api_key=None", "https://arxiv.org/abs/2506.09027", "KeyError: 'secret'", "def bearer(self): ...", "sk-learn",
     "the secret of a good prior", "-----BEGIN CERTIFICATE-----", "password=$DB_PASSWORD", "--token=${HF_TOKEN} x",
     "sorted(runs, key=lambda run: run.seed)", "login node and password required", "--token <your token>",
     "cache_key = classifier-digits-1a2b3c4d5e6f", "max(arms, key=operator.itemgetter(1))", "ssh login01.cluster.org",
     "the machine of that name, login and password", "SECRET_KEY = '****************1234'",
     "the key is 12", "pass the key to_the_function"],
)  # fmt: skip
def test_code_and_prose_are_no_secrets(text: str) -> None:
    assert not list(secrets_in(text))
    assert masked(text) == text


LONG = (
    "a." * 200_000 + "://", "A_" * 200_000 + "_KEY", "secret" * 70_000, "://:" * 100_000, "a1" * 200_000 + " key=",
    "login " * 70_000, "machine a " * 40_000, "key=" * 100_000, "token" + "a_" * 200_000, "eyJ" * 130_000,
    "a\n" * 200_000 + "key",
)  # fmt: skip


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_no_text_takes_long(text: str) -> None:
    start = time.process_time()
    masked(text)
    assert time.process_time() - start < 2

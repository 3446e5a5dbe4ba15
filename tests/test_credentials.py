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
}


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_found_with_its_line_and_masked(text: str) -> None:
    found = list(secrets_in(f"one\ntwo\n{text}"))
    assert found
    assert {line for line, _ in found} == {3}
    assert MASK in masked(text)
    assert SECRETS[text] not in masked(text)
    assert not any(SECRETS[text] in kind for _, kind in found)


@pytest.mark.parametrize(
    "text",
    ["key = os.environ['WANDB_API_KEY']", "password = getpass.getpass()", "token: 12", "13 tokens, 12 keys", "hf_model",
     "api_key=None", "https://arxiv.org/abs/2506.09027", "KeyError: 'secret'", "def bearer(self): ...", "sk-learn",
     "the secret of a good prior", "-----BEGIN CERTIFICATE-----"],
)  # fmt: skip
def test_code_and_prose_are_no_secrets(text: str) -> None:
    assert not list(secrets_in(text))
    assert masked(text) == text


@pytest.mark.parametrize("text", ["a." * 200_000 + "://", "A_" * 200_000 + "_KEY", "secret" * 70_000, "://:" * 100_000])
def test_no_text_takes_long(text: str) -> None:
    start = time.process_time()
    masked(text)
    assert time.process_time() - start < 2

"""Who is told of a study: by a program, or by https; and nothing that goes wrong there is anybody else's trouble."""

import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError
from support.jobs import jobs_of
from support.places import GRIDS
from support.programs import write_program

from harness.config.cluster_profile import LocalProfile
from harness.config.site_options import Notify
from harness.jobs.notification import tell
from harness.launchers.local_launcher import LocalLauncher


def test_a_program_hears_what_it_is_to_hear_and_no_shell_does(tmp_path):
    write_program(tmp_path, "hear", f'printf "%s|" "$@" >> {tmp_path}/heard', f"cat >> {tmp_path}/heard")
    notify = Notify(on=["failure", "end"], command=[str(tmp_path / "hear"), "-s", "{study}: {event}", "a b {text}"])
    tell(notify, "completion", "digits", "all is done")
    tell(notify, "end", "digits", "2; of 3 `id`")
    tell(None, "end", "digits", "nobody is to hear")
    assert (tmp_path / "heard").read_text() == "-s|digits: end|a b 2; of 3 `id`|2; of 3 `id`"


def test_who_runs_on_this_machine_hears_of_failures_and_of_the_end(tmp_path, monkeypatch):
    write_program(tmp_path, "hear", f'echo "$1" >> {tmp_path}/heard')
    job = jobs_of(tmp_path, "convergence", "seeds=[0]")[0]
    job.store.record_grid("convergence", GRIDS / "convergence.yaml", "smoke", ["seeds=[0]"])
    monkeypatch.setattr("harness.jobs.local_pool.run_inline", lambda jobs, *_: jobs[0].fail(KeyError("x")))
    notify = Notify(command=[str(tmp_path / "hear"), "{event} {text}"])
    LocalLauncher(LocalProfile(notify=notify)).send_once([job], (), print, wait=True)
    failure, end = (tmp_path / "heard").read_text().splitlines()
    assert failure == f"failure study: training {job.train_id} failed: bug: KeyError: 'x'"
    assert end == "end study: 0 of 2 trainings are done, 1 failed; harness status study tells why"


def test_what_goes_wrong_is_printed_without_secrets_and_raises_nothing(tmp_path, capsys):
    write_program(tmp_path, "fails", "exit 3")
    address = tmp_path / "address"
    address.write_text("https://127.0.0.1:9/secret")
    address.chmod(0o640)
    plain = tmp_path / "plain"
    plain.write_text("http://127.0.0.1:9/secret")
    plain.chmod(0o600)
    for notify, words in (
        (Notify(command=["/nowhere/at-all"]), "No such file"),
        (Notify(command=[str(tmp_path / "fails"), "--token=secret"]), "CalledProcessError"),
        (Notify(webhook=str(address)), "can be read by others: chmod 600"),
        (Notify(webhook=str(plain)), "one address that begins with https:// is expected"),
        (Notify(webhook="/nowhere/at-all"), "No such file"),
    ):
        tell(notify, "failure", "digits", "text")
        printed = capsys.readouterr().err
        assert printed.startswith("notify: nobody was told of failure: ")
        assert words in printed
        assert "secret" not in printed
    with pytest.raises(ValidationError, match="a command or a webhook is needed"):
        Notify(on=["end"])


class Hook(BaseHTTPRequestHandler):
    """Takes what is posted to /hook, and sends whoever posts to /moved elsewhere."""

    heard: ClassVar[list[tuple[str, dict]]] = []

    def do_POST(self) -> None:
        self.heard.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", f"http://{self.headers['Host']}/hook")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_webhook_hears_by_https_of_a_server_that_is_known_and_is_not_sent_elsewhere(tmp_path, monkeypatch, capsys):
    names = ("-keyout", tmp_path / "key", "-out", tmp_path / "cert", "-subj", "/CN=localhost")
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    subprocess.run([*new, *names, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    server, context = HTTPServer(("127.0.0.1", 0), Hook), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def post(path: str) -> str:
        file = Path(tmp_path / "address")
        file.write_text(f"https://localhost:{server.server_address[1]}{path}\n")
        file.chmod(0o600)
        tell(Notify(webhook=str(file)), "completion", "digits", "all is done")
        return capsys.readouterr().err

    assert "CERTIFICATE_VERIFY_FAILED" in post("/hook")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    assert post("/hook") == ""
    assert "the webhook answers 302" in post("/moved")
    server.shutdown()
    content = {"event": "completion", "study": "digits", "text": "all is done"}
    assert Hook.heard == [("/hook", content), ("/moved", content)]

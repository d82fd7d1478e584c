"""``lamp-policy serve`` as a person types it: it serves a run, says what, and ends in order."""

import json
import re
import signal
import sys
import threading
import urllib.request

import numpy as np
import pytest
from fixtures.policy import observed, policy, predicted, write_run

from jobs.cli.exit_codes import run_command
from jobs.commands.serve import Serve, serve_command
from lamp_model.policy import load_policy
from schemas.episode import ActionConvention
from schemas.robot_conventions import LIBERO_STATE


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("served") / "run")


class Output:
    """Standard output that can be waited for."""

    def __init__(self):
        self.text, self._changed = "", threading.Condition()

    def write(self, text):
        with self._changed:
            self.text += text
            self._changed.notify_all()

    def flush(self):
        pass

    def wait_for(self, pattern):
        with self._changed:
            assert self._changed.wait_for(lambda: re.search(pattern, self.text), 60), self.text
            return re.search(pattern, self.text)


def served(args, ask, monkeypatch):
    """Serve, ask on a thread beside it, end as Ctrl-C does: exit code, output, and what was answered."""
    output, found = Output(), []
    monkeypatch.setattr(sys, "stdout", output)

    def beside():
        try:
            found.append(ask(int(output.wait_for(r"on 127\.0\.0\.1:(\d+) ").group(1))))
        finally:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=beside)
    thread.start()
    code = run_command(lambda: serve_command(args))
    thread.join()
    return code, output.text, found


def test_a_run_is_what_its_policy_is(run):
    loaded = load_policy(run, device="cpu")
    assert loaded.state_names == LIBERO_STATE and loaded.statistics_key == "libero"
    np.testing.assert_allclose(predicted(loaded, observed(0), 3), predicted(policy(), observed(0), 3), atol=1e-6)


def test_it_says_what_it_serves_and_ends_with_0(run, monkeypatch):
    def ask(port):
        url = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{url}/health") as health:
            return json.loads(health.read())

    code, text, found = served(Serve(str(run), port=0, device="cpu", protocol="http"), ask, monkeypatch)
    assert (code, found) == (0, [{"status": "ok"}])
    assert re.search(r"by http on 127\.0\.0\.1:\d+ for the authors' LIBERO client: cameras image 0, image 1; ", text)
    assert "a state of 8 numbers; chunks of 4 actions (libero_osc_delta_gripper_open)" in text
    assert text.endswith("ended: 0 answers, 0 refusals\n")


def test_a_second_server_on_the_port_is_told_so(run, monkeypatch, capsys):
    def ask(port):
        return run_command(lambda: serve_command(Serve(str(run), port=port, device="cpu", protocol="openpi")))

    assert served(Serve(str(run), port=0, device="cpu"), ask, monkeypatch)[::2] == (0, [1])
    assert "another lamp-policy serve, uses the port; choose another with --port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "0.0.0.0"}, "needs --allow-remote as well"),
        ({"client": "panda"}, "the client must be one of native, libero, simpler-widowx, found 'panda'"),
        ({"client": "simpler-widowx"}, "the policy looks at the cameras image, wrist, and SimplerEnv's WidowX"),
        ({"max_batch": 0}, "max-batch must lie between 1 and 65536, found 0"),
        ({"execute": 9}, "execute must lie between 1 and the policy's 4 actions, found 9"),
        ({"image_orientation": "mirrored"}, "is a run, which knows its own"),
    ],
)
def test_what_cannot_be_served_is_a_wrong_command_line(run, options, says, capsys):
    assert run_command(lambda: serve_command(Serve(str(run), device="cpu", port=0, **options))) == 2
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1


def test_a_policy_of_another_robot_is_refused_for_libero_and_served_as_it_is(tmp_path, monkeypatch, capsys):
    twist = ActionConvention("twist", tuple("xyzabcg"), "metres a second")
    other = write_run(tmp_path / "run", convention=twist, state_names=tuple("abcdefgh"))
    asked = Serve(str(other), port=0, device="cpu")
    assert run_command(lambda: serve_command(Serve(str(other), port=0, device="cpu", client="libero"))) == 2
    assert "a state of 8 numbers (a, b, c, d, e, f, g, h), and LIBERO in vla-eval sends" in capsys.readouterr().err
    code, text, _ = served(asked, lambda port: None, monkeypatch)
    assert code == 0 and "for a client that sends and takes what the policy was trained on" in text


def test_a_missing_run_is_said(tmp_path, capsys):
    assert run_command(lambda: serve_command(Serve(str(tmp_path / "none")))) == 2
    assert "is no run of lamp-train" in capsys.readouterr().err


def test_a_token_comes_from_a_file(run, tmp_path, monkeypatch, capsys):
    assert run_command(lambda: serve_command(Serve(str(run), token_file=tmp_path / "none"))) == 2
    assert "--token-file" in capsys.readouterr().err
    (tmp_path / "token").write_text("sesame\n")

    def ask(port):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": "Bearer sesame"})
        return urllib.request.urlopen(request).status

    asked = Serve(str(run), port=0, device="cpu", token_file=tmp_path / "token")
    assert served(asked, ask, monkeypatch)[::2] == (0, [200])

"""A build into a store that is killed again and again ends as one that was not; also against moto's server, where its
python is named in ``LAMP_TEST_MOTO`` or moto is installed.
"""

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from fixtures.command import ENVIRONMENT, lamp_data, start_lamp_data
from fixtures.libero import FAST, Demo, outputs_of, write_file
from fixtures.object_server import environment

pytest.importorskip("obstore")
MOTO = os.environ.get("LAMP_TEST_MOTO") or (sys.executable if importlib.util.find_spec("moto") else None)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "libero"
    write_file(folder / "a_demo.hdf5", [Demo(0), Demo(1, 0, 14)])
    return folder


def words(source, output):
    return ["build", "--dataset", "libero", "--input", source, "--output", output, "--executor", "local", *FAST]


def command(url, folder):
    return {"folder": folder, "env": {**ENVIRONMENT, **environment(url), "LAMP_CACHE": str(folder / "cache")}}


def test_a_build_killed_at_any_write_is_finished_by_the_next(server, source, tmp_path):
    options = ["--samples-per-shard", "2"]
    assert lamp_data(*words(source, tmp_path / "here"), *options, folder=tmp_path).returncode == 0
    for nth in (5, 8):
        server.written.clear()
        process = start_lamp_data(*words(source, "s3://bucket/out"), *options, **command(server.url, tmp_path))
        while len(server.written) < nth and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was not to end before"
    ran = lamp_data(*words(source, "s3://bucket/out"), *options, **command(server.url, tmp_path))
    assert ran.returncode == 0, ran.stderr
    stored = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in server.below("bucket/out").items()
        if not name.startswith(".lamp/")
    }
    assert stored == outputs_of(tmp_path / "here")


@pytest.fixture
def moto(tmp_path):
    """The address of moto's server, with a bucket."""
    if MOTO is None:
        pytest.skip("moto is not installed; LAMP_TEST_MOTO may name a python that has it")
    code = "from moto.server import ThreadedMotoServer as S; import time; s = S('127.0.0.1', 0, verbose=False); "
    code += "s.start(); print(s.get_host_and_port()[1], flush=True); time.sleep(3600)"
    process = subprocess.Popen([MOTO, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).read()
        yield url
    finally:
        process.kill()
        process.communicate()


def test_motos_server_keeps_builds_apart_and_gives_back_what_was_built(moto, source, tmp_path):
    assert lamp_data(*words(source, tmp_path / "here"), folder=tmp_path).returncode == 0
    first = start_lamp_data(*words(source, "s3://bucket/out"), **command(moto, tmp_path))
    second = start_lamp_data(*words(source, "s3://bucket/out"), **command(moto, tmp_path))
    said = [process.communicate(timeout=120)[1] for process in (first, second)]
    codes = sorted([first.returncode, second.returncode])
    assert codes == [0, 1] or (codes == [0, 0]), said  # the later one may find it finished
    if codes == [0, 1]:
        assert any("another build" in text for text in said)
    assert lamp_data("copy", "s3://bucket/out", tmp_path / "back", **command(moto, tmp_path)).returncode == 0
    assert outputs_of(tmp_path / "back") == outputs_of(tmp_path / "here")

"""A hub that cannot be reached is asked once, and what it means is one sentence; both houses ask alike."""

import http.server
import socket
import threading

import pytest
from huggingface_hub import constants, snapshot_download

from lamp_model.backbones import openvla_7b, qwen3_vl
from pipeline.depth import depth_anything_v2
from schemas.hub import hub_at_hand
from schemas.plugins import MissingDependency


@pytest.fixture
def unreachable(monkeypatch, tmp_path):
    """A port of this machine where nobody listens; nothing was downloaded before."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield


def test_an_unreachable_hub_is_offline_until_the_end(unreachable):
    with hub_at_hand():
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()
    with pytest.raises(ConnectionError, match="cannot be reached, and they were not downloaded before"), hub_at_hand():
        snapshot_download("nobody/nothing")
    assert not constants.is_offline_mode()


def test_a_hub_that_answers_is_left_as_it_is(monkeypatch):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(403)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with hub_at_hand():
            assert not constants.is_offline_mode()
        with pytest.raises(FileNotFoundError, match="mine"), hub_at_hand():
            raise FileNotFoundError("mine")
        server.shutdown()


@pytest.mark.parametrize("module", [qwen3_vl, openvla_7b, depth_anything_v2])
def test_who_asks_for_weights_says_so_without_asking_again(unreachable, module, monkeypatch, caplog):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("the hub was asked again"))
    with pytest.raises(MissingDependency, match=r"cannot be reached") as missing:
        module.build(module.Config(weights="nobody/nothing", revision="0" * 40))
    assert "\n" not in str(missing.value) and not caplog.records

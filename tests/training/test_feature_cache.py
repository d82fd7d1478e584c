"""Features on disk: what comes back, what is refused, and that a run with them is the run without."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.shard import write_shards
from training.test_model_training import request, smaller

from lamp_model.storage.feature_cache import FeatureCache, digest_of_features
from lamp_model.training import encoding, preparation
from lamp_model.training.metrics import read_metrics
from lamp_model.training.run import prepare, train
from schemas.locks import held


def cache_in(folder, **changes):
    return FeatureCache(folder, **{"length": 6, "width": 4, "most_bytes": 10**6, "samples": 5, **changes})


def test_what_was_kept_comes_back_padded_in_front(tmp_path):
    cache = cache_in(tmp_path)
    long, short = torch.randn(5, 4), torch.randn(3, 4)
    cache.put(7, "open", long)
    cache.put(2, "close", short)
    cache.close()
    again = cache_in(tmp_path)
    found = again.features([2, 7], ["close", "open"], torch.device("cpu"))
    assert found is not None and found.mask is not None
    assert found.mask.tolist() == [[False, False, True, True, True], [True] * 5]
    assert torch.equal(found.tokens[0, 2:], short.half().float()) and not found.tokens[0, :2].any()
    assert torch.equal(found.tokens[1], long.half().float())
    assert again.features([2], ["open"], torch.device("cpu")) is None
    assert again.last == 2 and len(again) == 2


def test_a_damaged_or_half_written_row_is_not_used(tmp_path):
    cache = cache_in(tmp_path)
    for number in range(3):
        cache.put(number, "x", torch.full((2, 4), float(number + 1)))
    cache.close()
    data = bytearray((tmp_path / "features").read_bytes())
    data[6 * 4 * 2] ^= 1  # the first number of the second row
    (tmp_path / "features").write_bytes(data)
    again = cache_in(tmp_path)
    assert again.get(1, "x") is None
    assert np.array_equal(again.get(2, "x"), np.full((2, 4), 3.0))


def test_it_is_bounded_and_keeps_nothing_that_does_not_fit(tmp_path):
    cache = cache_in(tmp_path, most_bytes=2 * 6 * 4 * 2)
    cache.put(0, "x", torch.zeros(7, 4))  # longer than a row
    cache.put(1, "x", torch.full((2, 4), 1e5))  # beyond 16 bits
    cache.put(2, "x", torch.full((2, 4), float("nan")))
    for number in range(3, 6):
        cache.put(number, "x", torch.ones(2, 4))
    assert len(cache) == 2 and cache.full and cache.get(5, "x") is None
    assert (tmp_path / "features").stat().st_size == 2 * 6 * 4 * 2


def test_other_weights_have_another_name():
    one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert digest_of_features(one, "a") == digest_of_features(one, "a")
    assert len({digest_of_features(one, "a"), digest_of_features(two, "a"), digest_of_features(one, "b")}) == 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    torch.set_num_threads(1)
    return write_shards(tmp_path_factory.mktemp("cached"), episodes=3, frames=2)


def test_every_sample_is_encoded_once_for_both_stages(data, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "cache_folder", lambda: tmp_path / "cache")
    counted, encode = [], encoding.MotionModel.encode
    monkeypatch.setattr(
        encoding.MotionModel,
        "encode",
        lambda self, images, texts: counted.append(len(texts)) or encode(self, images, texts),
    )
    train(smaller(prepare(request(1, data, tmp_path / "stage1"))))
    assert sum(counted) == 10  # six windows; the three or so of an episode with two texts twice
    train(smaller(prepare(request(2, data, tmp_path / "stage2", tmp_path / "stage1"))))
    assert sum(counted) == 10
    mirrored = request(1, data, tmp_path / "mirrored")
    train(smaller(prepare(replace(mirrored, options={**mirrored.options, "image_orientation": "mirrored"}))))
    assert sum(counted) == 20, "features of upright images are not those of mirrored ones"


def test_runs_share_what_one_of_them_filled(data, tmp_path, monkeypatch):
    """While a run trains, another may lock the cache to fill it: before, the second run encoded at every visit."""
    monkeypatch.setattr(encoding, "cache_folder", lambda: tmp_path / "cache")
    trains, call = [], encoding.CachedEncoder.__call__

    def features(self, batch):
        (folder,) = (tmp_path / "cache").iterdir()
        with held(folder / ".lock"):
            trains.append(folder)
        return call(self, batch)

    monkeypatch.setattr(encoding.CachedEncoder, "__call__", features)
    train(smaller(prepare(request(1, data, tmp_path / "run"))))
    assert trains


def test_a_run_waits_for_what_another_is_writing_and_encodes_nothing(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(encoding, "cache_folder", lambda: tmp_path / "cache")
    train(smaller(prepare(request(1, data, tmp_path / "first"))))
    (folder,) = (tmp_path / "cache").iterdir()
    written = {path: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    for path in written:
        path.unlink()
    second = smaller(prepare(request(1, data, tmp_path / "second")))
    counted, encode = [], encoding.MotionModel.encode
    monkeypatch.setattr(encoding.MotionModel, "encode", lambda *asked: counted.append(1) or encode(*asked))
    said = ""
    with ThreadPoolExecutor(1) as beside:
        with held(folder / ".lock"):
            training = beside.submit(train, second)
            until = time.monotonic() + 60
            while "waiting for it" not in said and not training.done() and time.monotonic() < until:
                said += capfd.readouterr().out
                time.sleep(0.01)
            assert f"another run is filling {folder}; waiting for it" in said and not training.done()
            for path, content in written.items():
                path.write_bytes(content)
        training.result(60)
    assert not counted
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("first", "second")]
    assert weights[0] == weights[1]


def test_a_run_with_features_on_disk_learns_what_one_without_learns(data, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "cache_folder", lambda: tmp_path / "cache")
    losses = []
    for name, choice in (("with", "on"), ("without", "off")):
        asked = replace(request(1, data, tmp_path / name), cache_features=choice)
        train(smaller(prepare(asked)))
        losses.append([line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in line])
    np.testing.assert_allclose(*losses, rtol=2e-3)


def test_it_is_said_why_features_cannot_be_kept(data, tmp_path):
    config = prepare(request(1, data, tmp_path / "run")).config
    with_adapters = replace(config, model=replace(config.model, padding="repeat"))
    asked = replace(request(1, data, tmp_path / "run"), cache_features="on")
    with pytest.raises(ValueError, match="--cache-features on is not possible here: padding"):
        preparation._room_for_features(asked, with_adapters, torch.device("cpu"))
    automatic = replace(asked, cache_features="auto")
    assert preparation._room_for_features(automatic, with_adapters, torch.device("cpu")) is None
    assert preparation._room_for_features(automatic, config, torch.device("cpu")) == 4.0
    assert preparation._room_for_features(automatic, config, torch.device("cuda")) is None

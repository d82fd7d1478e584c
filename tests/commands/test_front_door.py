"""``import lamp_model``: light, and shards as a sequence of arrays that a DataLoader takes."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from fixtures.command import ENVIRONMENT, lamp_data, said
from fixtures.shard import write_shards
from torch.utils.data import DataLoader

import lamp_model
from schemas.files import sha256_of
from schemas.manifest import BadManifest
from schemas.mixture import Member, Mixture
from schemas.scene_flow import PointFlag
from schemas.shard_set import ShardSet
from schemas.version import VERSION


@pytest.fixture(scope="module", params=["webdataset", "zarr"])
def folder(request, tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("front") / "shards", episodes=2, frames=3, format=request.param)


def test_it_is_light_and_says_its_version(tmp_path):
    code = (
        "import sys, lamp_model; assert lamp_model.__version__ == sys.argv[1]; assert 'open_shards' in dir(lamp_model);"
        "heavy = {'torch', 'transformers', 'cv2', 'numpy'} & set(sys.modules); assert not heavy, heavy;"
        "lamp_model.open_shards; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, VERSION], check=True, env=ENVIRONMENT, cwd=tmp_path)
    assert set(lamp_model.__all__) == {*lamp_model.HOMES, "__version__"}
    with pytest.raises(AttributeError, match="has no attribute 'open_shard'"):
        lamp_model.open_shard  # noqa: B018


def test_a_sample_is_the_triplet_decoded(folder):
    shards = lamp_model.open_shards(str(folder))
    assert len(shards) == len(ShardSet(folder)) == 6
    sample, triplet = shards[4], ShardSet(folder).read(4)
    assert sample["key"] == triplet.key and sample["instruction"] == triplet.instructions[0]
    assert sample["image"].dtype == np.uint8 and sample["image"].shape[:2] == triplet.camera.size[::-1]
    increments, mask = triplet.flow.increments()
    assert np.array_equal(sample["flow"], increments.astype(np.float32)) and np.array_equal(sample["flow_mask"], mask)
    steps = np.diff(sample["positions"], axis=1)
    assert mask.any() and np.allclose(sample["flow"][mask], steps[mask], atol=1e-6)
    assert np.array_equal(sample["state"], triplet.state) and np.array_equal(sample["actions"], triplet.actions)
    assert sample["world_from_camera"].shape == (triplet.flow.horizon + 1, 4, 4)
    assert ((sample["point_flags"] & PointFlag.STATIC) > 0).shape == (len(sample["flow"]),)


def test_it_is_a_sequence(folder):
    shards = lamp_model.open_shards(folder)
    assert shards[-1]["key"] == shards[5]["key"] and len([sample["key"] for sample in shards]) == 6
    for number in (6, -7):
        with pytest.raises(IndexError, match=f"sample {number} of 6"):
            shards[number]
    shards.close()
    assert shards[0]["key"] == pickle.loads(pickle.dumps(shards))[0]["key"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_data_loader_takes_it_with_workers(folder, method):
    shards = lamp_model.open_shards(folder)
    shards[0]  # opened before the workers are
    loader = DataLoader(shards, batch_size=2, num_workers=1, multiprocessing_context=method)  # pyright: ignore
    batches = list(loader)
    assert [len(batch["key"]) for batch in batches] == [2, 2, 2]
    assert torch.equal(batches[1]["flow"][0], torch.from_numpy(shards[2]["flow"]))


def test_a_mixture_opens_too(tmp_path):
    folder = write_shards(tmp_path / "one", episodes=2, frames=2)
    member = Member("one", "one", None, sha256_of(folder / "manifest.json"), 4, 2, {"name": "one"})
    Mixture("both", (member,)).write(tmp_path)
    assert len(lamp_model.open_shards(str(tmp_path))) == 4


def test_what_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(BadManifest, match="does not exist"):
        lamp_model.open_shards(str(tmp_path))
    with pytest.raises(ValueError, match=r"ftp://host/x cannot be used: known are folders of this machine, s3://"):
        lamp_model.open_shards("ftp://host/x")
    for load in (lamp_model.load_policy, lamp_model.load_motion_expert):
        with pytest.raises(ValueError, match=r"the source is s3://bucket/x, and only folders and files"):
            load("s3://bucket/x")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["build", "--dataset", "libero", "--input", "ftp://host/x"], "ftp://host/x cannot be used: known are"),
        (["build", "--dataset", "libero", "--output", "https://host/x"], "https://host/x cannot be written"),
        (
            ["build", "--dataset", "libero", "--output", "s3://b/x", "--format", "zarr"],
            "needs a folder of this machine",
        ),
        (["build", "--dataset", "libero", "--input", "s3://b/x", "--output", "s3://b/x/y"], "lies within --input"),
        (["inspect", "hf://datasets/x"], "hf://datasets/x names no OWNER/NAME"),
        (["inspect", "shards", "--picture", "s3://b/x.png"], "--picture is s3://b/x.png, and only folders and files"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, words, says):
    ran = lamp_data(*words, folder=tmp_path)
    assert ran.returncode == 2 and says in said(ran) and not list(tmp_path.iterdir())

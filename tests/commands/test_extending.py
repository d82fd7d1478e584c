"""The tracker and the reader of docs/extending.md, as they stand there, from outside the package."""

import re
import sys

import numpy as np
import pytest
from fixtures.command import ENVIRONMENT, ROOT, lamp_data

from schemas.plugins import UnknownPlugin, load_plugin
from schemas.shard_set import ShardSet

SHIFT_PX = 2


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder with both modules and two recordings of a tilted textured plane that slides to the right."""
    folder = tmp_path_factory.mktemp("outside")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
    for name, block in zip(("my_tracker", "my_reader"), blocks, strict=True):
        (folder / f"{name}.py").write_text(block)
    (folder / "recordings").mkdir()
    for number in range(2):
        np.savez(folder / f"recordings/{number}.npz", **recording(number))
    (folder / "recordings/bad.npz").write_bytes(b"no zip")
    return folder


def recording(seed, frames=14, height=64, width=96):
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 256, (height // 4, width // 2, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    starts = [width - SHIFT_PX * t for t in range(frames)]
    return {
        "rgb": np.stack([wide[:, start : start + width] for start in starts]),
        "depth_mm": np.broadcast_to(np.linspace(2000, 2200, height)[:, None], (frames, height, width)).astype(
            np.uint16
        ),
        "joints": rng.normal(size=(frames, 2)),
        "action": rng.normal(size=(frames, 3)),
        "text": "slide the plane",
    }


@pytest.fixture
def modules(outside, monkeypatch):
    """Both modules, imported from there."""
    monkeypatch.syspath_prepend(str(outside))
    for name in ("my_tracker", "my_reader"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import my_reader  # pyright: ignore[reportMissingImports]
    import my_tracker  # pyright: ignore[reportMissingImports]

    yield my_tracker, my_reader
    for name in ("my_tracker", "my_reader"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("step", [1, 2])
def test_the_tracker_finds_the_true_shift(modules, step):
    tracker = modules[0].build(modules[0].Config(step=step))
    keypoints = np.array([[20.5, 30.5], [90.5, 10.5]])
    tracks = tracker.track(recording(0)["rgb"], [0, 10], keypoints, 5)
    assert np.allclose(tracks[0].uv[:, 3] - keypoints, [3 * SHIFT_PX, 0], atol=0.5)
    assert tracks[0].visible[0].all() and not tracks[0].visible[1, 4], "it leaves the picture"
    assert tracks[1].visible[0].tolist() == [True, True, True, True, False, False], "the clip ends"
    with pytest.raises(ValueError, match="step must be 1 or more"):
        modules[0].Config(step=0)


def test_the_reader_gives_episodes_and_refuses_bad_ones(modules, outside, tmp_path):
    from schemas.episode import BadEpisode

    reader = modules[1].build(modules[1].Config())
    *good, bad = list(reader.list_episodes(outside / "recordings"))
    assert [ref.source for ref in good] == ["0.npz", "1.npz"]
    episode = reader.read(good[0])
    assert (episode.length, episode.instructions, episode.primary) == (14, ("slide the plane",), "front")
    view = episode.views["front"]
    assert view.frames.shape == (14, 64, 96, 3) and (view.depth.read()[:, 0] == 2).all()
    with pytest.raises(BadEpisode, match=r"bad\.npz:0 lacks rgb"):
        reader.read(bad)
    with pytest.raises(FileNotFoundError, match=r"holds no \.npz file"):
        list(reader.list_episodes(tmp_path))


def test_the_command_of_the_page_builds_true_flow(outside, monkeypatch):
    monkeypatch.syspath_prepend(str(outside))
    try:
        load_plugin("pipeline.trackers", "my_tracker")
    except UnknownPlugin:
        pytest.skip("this version takes no part from outside the package")
    words = ["--tracker", "my_tracker:step=2", "--dataset", "my_reader", "--input", "recordings"]
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", f"{ENVIRONMENT['PYTHONPATH']}:{outside}")
    ran = lamp_data(
        *("build", *words, "--output", "shards/mine", "--executor", "local", "--horizon", "8", "--grid", "6"),
        *("--max-quarantined", "1", "--quality.min-valid", "0", "--camera-options", "max_motion=none"),
        folder=outside,
    )
    assert ran.returncode == 0, ran.stderr
    flow = ShardSet(outside / "shards/mine").read(0).flow
    increments, mask = flow.increments()
    assert mask.any() and np.allclose(np.median(increments[mask], axis=0), [SHIFT_PX / 96, 0, 0], atol=2e-3)

"""LIBERO files drawn anew by the simulator at another size, with depth: input for benchmarks."""

import shutil
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from pipeline.readers.libero import LiberoReader
from pipeline.simulator.model import AssetFolders, load_model
from pipeline.simulator.rendering import SceneCamera
from pipeline.simulator.replay import Replay
from schemas.episode import EpisodeRef

NEAR, FAR = 0.01, 50.0


def render_files(root: Path, folder: Path, size: int, robosuite: Path | None, libero_assets: Path | None) -> Path:
    """Copies of the HDF5 files below ``root`` whose pictures are ``size`` x ``size``; the folder they lie in."""
    reader, folders = LiberoReader(), AssetFolders(robosuite, libero_assets)
    for ref in reader.list_episodes(root):
        if not isinstance(ref, EpisodeRef):
            raise SystemExit(str(ref))
        path = folder / ref.source
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ref.path, path)
        with h5py.File(path, "r+") as file:
            _draw(reader, ref, file[f"data/{ref.episode}/obs"], size, folders)
    return folder


def _draw(reader: LiberoReader, ref: EpisodeRef, obs, size: int, folders: AssetFolders) -> None:
    for name, view in reader.read(ref).views.items():
        recorded = view.simulation
        if recorded is None:
            raise SystemExit(f"{ref.name} has no simulator states")
        xml, states = recorded.read()
        model = load_model(ref.name, xml, folders)
        replay = Replay(ref.name, model, states, recorded.camera, (size, size))
        look = partial(SceneCamera, model, recorded.camera, (size, size))
        eye = look(smooth=True)
        _store(obs, f"{name}_rgb", replay.pictures(eye)[:, ::-1])
        eye.close()
        if name == "agentview":
            eye = look()
            metres = np.nan_to_num(replay.see(eye).depth, nan=FAR)[:, ::-1, :, None]
            eye.close()
            buffer = (1 - NEAR / metres.astype(np.float64)) / (1 - NEAR / FAR)
            stored = _store(obs, f"{name}_depth", buffer.astype(np.float32))
            stored.attrs["znear_m"], stored.attrs["zfar_m"] = NEAR, FAR


def _store(obs, key: str, values: np.ndarray):
    if key in obs:
        del obs[key]
    return obs.create_dataset(key, data=values)  # as LIBERO's create_dataset.py does: not compressed

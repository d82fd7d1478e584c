"""Which action belongs to which frame of an HDF5 file in LIBERO's layout. Two conventions are in use.

LIBERO's own tool records an observation *after* the step that ``actions[t]`` commanded, so that ``obs/joint_states[t]``
are the joints of ``states[t + 1]``. Tools that replay the demonstrations, such as OpenVLA's, record it *before* the
step: they are the joints of ``states[t]``. The joints match bit for bit, so the file shows which convention it has.
"""

from dataclasses import dataclass
from typing import Literal

import h5py
import numpy as np

from pipeline.formats.hdf5 import Node
from schemas.episode import BadEpisode, EpisodeRef

Observed = Literal["before", "after"]
"""Whether a frame was recorded before or after the action in its row."""

JOINTS = slice(1, 8)
"""The arm's joints in a state; they follow the time."""


@dataclass(frozen=True)
class Pairing:
    """How rows of actions and states belong to frames.

    Attributes:
        observed: when the frame of a row was recorded.
        first_state: whether the first frame shows the first state. A replayed file may hold the original file's first
            state.
        notes: notes for the episode.
    """

    observed: Observed
    first_state: bool
    notes: dict[str, str]

    def states_shown(self, states: np.ndarray) -> np.ndarray:
        """The state that each frame shows, T x D; NaN where it was not recorded.

        Args:
            states: as recorded, one per row.
        """
        absent = np.full_like(states[:1], np.nan)
        if self.observed == "after":  # what the last frame shows was not recorded
            return np.concatenate([states[1:], absent])
        return states if self.first_state else np.concatenate([absent, states[1:]])


def pairing_of(ref: EpisodeRef, demo: Node, said: Observed | None) -> Pairing:
    """How a demo's actions and states belong to its frames.

    Args:
        said: the convention to use if the file does not show it, because it has no states or the arm does not move;
            LIBERO's own by default.

    Raises:
        BadEpisode: the file has states that fit neither convention (``observation_time``), and ``said`` is not given.
    """
    told, first_state = _told_by_states(demo)
    if len(told) == 1:
        (when,) = told
        note = "recorded before the action of their row, as joint_states and states say"
        return Pairing(when, first_state, {"observations": note} if when == "before" else {})
    if said is not None:
        note = f"taken to be recorded {said} the action of their row, as configured"
        return Pairing(said, first_state, {"observations": note})
    if told:
        note = "taken to be recorded after the action of their row, which no states tell"
        return Pairing("after", first_state, {"observations": note})
    raise BadEpisode(
        "observation_time",
        f"{ref.name}: obs/joint_states[t] are neither the joints of states[t + 1], as in LIBERO's own files, nor those "
        "of states[t], as in files that were played again, so that actions cannot be paired with frames; say which "
        "with --dataset-options observed=after or observed=before",
    )


def _told_by_states(demo: Node) -> tuple[set[Observed], bool]:
    """The conventions that the states allow (both if they do not decide, none if they fit neither); and whether the
    first frame may show the first state.
    """
    both: set[Observed] = {"before", "after"}
    obs = demo["obs"]
    if not isinstance(demo.get("states"), h5py.Dataset) or not isinstance(obs.get("joint_states"), h5py.Dataset):
        return both, True
    joints, states = obs["joint_states"][:], demo["states"][:]
    width = JOINTS.stop - JOINTS.start
    if joints.shape != (len(states), width) or states.ndim != 2 or states.shape[1] < JOINTS.stop:
        return both, True
    coarser = min(joints.dtype, states.dtype, key=lambda kind: kind.itemsize)
    joints, arm = joints.astype(coarser), states[:, JOINTS].astype(coarser)
    # Replayed files may hold the first state of the original, so the first row is not compared.
    fits: dict[Observed, bool] = {
        "after": np.array_equal(joints[:-1], arm[1:]),
        "before": np.array_equal(joints[1:], arm[1:]),
    }
    return {when for when, fit in fits.items() if fit}, bool(np.array_equal(joints[0], arm[0]))

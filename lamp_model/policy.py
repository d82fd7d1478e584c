"""The policy for inference: from raw images, an instruction and a state to an action chunk."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float

from schemas.optional import missing_package

try:
    import torch
    from torch.nn import functional
except ModuleNotFoundError as missing:
    raise missing_package(missing) or missing from missing

from lamp_model import observation
from lamp_model.config import DataSource
from lamp_model.data.embodiments import Embodiment, embodiments_of
from lamp_model.data.normalisation import Normaliser
from lamp_model.errors import BadRun
from lamp_model.model import PolicyModel, check_mode
from lamp_model.observation import Observation
from lamp_model.prediction import MotionWanted, Noise, NotFinite, Prediction, Seen, predict
from lamp_model.published.files import is_published
from lamp_model.published.loading import load_published_policy
from lamp_model.storage.run_folder import STATISTICS, Weights, finished_run, load_model, read_statistics
from schemas.devices import choose_device
from schemas.episode import ActionConvention
from schemas.errors import first_line
from schemas.flips import flipped


class LampPolicy:
    """A trained policy.

    Attributes:
        model: frozen, in evaluation mode.
        state_range, action_range: of the data it was trained on.
        action_convention: meaning of the action dimensions; None where the data did not define it.
        state_names: one word for each dimension of the state; None where the data did not define them.
        statistics_key: name of the dataset whose statistics normalise states and actions; None where it is not known.
        pil_size: side to which PIL resizes images first; None leaves all resizing to the backbone.
    """

    def __init__(
        self,
        model: PolicyModel,
        state_range: Normaliser,
        action_range: Normaliser,
        pil_size: int | None = None,
        action_convention: ActionConvention | None = None,
        state_names: tuple[str, ...] | None = None,
        statistics_key: str | None = None,
    ):
        self.model, self.state_range, self.action_range = model, state_range, action_range
        self.pil_size, self.action_convention = pil_size, action_convention
        self.state_names, self.statistics_key = state_names, statistics_key

    @property
    def cameras(self) -> tuple[str, ...]:
        """Roles of the images that ``predict`` takes, in order."""
        return self.model.config.cameras

    @property
    def image_orientation(self) -> str:
        """Orientation of the networks' input, one of ``ORIENTATIONS``. ``predict`` takes upright images."""
        return self.model.config.image_orientation

    def predict(
        self,
        images: Sequence[np.ndarray],
        instruction: str,
        state: Sequence[float] | np.ndarray,
        seed: int = 0,
        return_motion: bool = False,
    ) -> Float[np.ndarray, "H A"] | tuple[Float[np.ndarray, "H A"], Float[np.ndarray, "K T 3"]]:
        """Predict the next actions (paper, section 3.4).

        Args:
            images: for each of ``cameras`` an upright, unmirrored RGB image, uint8 [height, width, 3] of any size: as
                in the shards. They are flipped here if the networks need it (``image_orientation``). LIBERO's
                environment gives them upside down: flip them first (``image[::-1]``).
            instruction: what to do.
            state: proprioception in the convention of the training data.
            seed: of the noise of motion and action; the same seed gives the same actions.
            return_motion: also run the whole motion, which the actions do not need.

        Returns:
            Actions in the convention of the training data, float32; with ``return_motion`` also the increments (du, dv,
            dz) of the keypoint grid at each step, in the upright image (unit square; the depth unit of the training
            data).

        Raises:
            ValueError: an input has the wrong type, shape or number, the instruction is empty, or there is no motion to
                return.
            NotFinite: the network's actions (or motion) hold NaN or infinity, for example from damaged weights.
        """
        seen = self.prepare(Observation(images, instruction, state))
        self.check_length(instruction)
        observation.check_seed(seed)
        self.check_motion(return_motion)
        noise = Noise.draw(self.model, 1, torch.Generator().manual_seed(int(seed)))
        (row,) = self.predict_batch([seen], noise, ["whole" if return_motion else "none"])
        if isinstance(row, NotFinite):
            raise row
        return row.actions.numpy() if row.motion is None else (row.actions.numpy(), row.motion.numpy())

    def predict_batch(
        self, seen: Sequence[Seen], noise: Noise, wanted: Sequence[MotionWanted]
    ) -> list[Prediction | NotFinite]:
        """Predict for prepared observations in one forward pass; see ``lamp_model.prediction.predict``."""
        return predict(self.model, self.action_range, seen, noise, wanted)

    def prepare(self, observed: Observation) -> Seen:
        """Check an observation and convert it to the networks' input. The instruction's length is not checked
        (``check_length``); any thread may call this.

        Raises:
            ValueError: as ``predict``.
        """
        observation.check_images(observed.images, self.cameras)
        observation.check_instruction(observed.instruction)
        state = observation.seen_state(observed.state, self.state_range)
        state = functional.pad(state, (0, self.model.config.action.state_size - state.shape[-1]))  # of the widest robot
        seen = [flipped(image, *self.model.config.flips) for image in observed.images]
        resized = [observation.resized_by_pil(image, self.pil_size) for image in seen]
        return Seen(tuple(torch.from_numpy(image) for image in resized), observed.instruction, state)

    def check_length(self, instruction: str) -> int:
        """The number of tokens that an instruction makes with the images. One thread at a time may call this.

        Raises:
            ValueError: there are more than the policy has room for.
        """
        room = self.model.config.action.positions - self.model.config.action.chunk
        length = self.model.qwen_vl_interface.length(instruction, len(self.cameras))
        if length > room:
            raise ValueError(
                f"the instruction is too long: with the images it makes {length} tokens, the policy has room for {room}"
            )
        return length

    def check_motion(self, wanted: bool) -> None:
        """Refuse to return a motion that the policy does not predict.

        Raises:
            ValueError: motion is wanted and there is none.
        """
        if wanted and not self.model.config.guided:
            raise ValueError("this policy was trained with --motion none: it has no motion to return")


def load_policy(
    source: str | Path,
    device: str = "auto",
    statistics_key: str | None = None,
    compile: str | None = None,
    features: str | None = None,
    image_orientation: str | None = None,
    weights: Weights | None = None,
) -> LampPolicy:
    """Load the policy of a finished stage 2 run, or of a published checkpoint.

    Args:
        source: a run's folder, e.g. ``runs/stage2``; or a published checkpoint: a folder, a ``.pt`` or a name on the
            Hugging Face hub.
        device: ``auto`` takes a GPU when there is one.
        statistics_key: selects the normalisation of states and actions. For a run trained on several datasets: one of
            them (its name in the mixture, followed by ``/`` and the convention where it holds several robots). For a
            published checkpoint: by default ``libero``, else ``franka``.
        compile: a mode of torch.compile for the backbone and the two experts, e.g. ``default`` or, with CUDA graphs,
            ``reduce-overhead``. The first prediction then takes minutes, and so does the first with a new prompt
            length.
        features: of a published checkpoint: the backbone's last hidden states ``after-norm`` (the default, as in
            transformers 5) or ``before-norm`` (as in 4.57); the authors' release allows both. A run stores its own.
        image_orientation: of a published checkpoint: whether its networks take images ``upright``, ``mirrored`` or
            ``rotated-180``. By default mirrored with the statistics of LIBERO, as the authors' evaluation and data are;
            a run stores its own. ``predict`` always takes upright images.
        weights: of a run: ``averaged`` over the steps (``--ema``), those of the ``last`` step, or of the ``best``
            checkpoint by held-out loss. By default averaged where there are such, else last.

    Raises:
        BadRun: there is no such run, it has not finished, or it has no such weights.
        BadCheckpoint: its weights are damaged, tampered with, or of another model or size.
        ValueError: the device or mode is not available, or ``statistics_key`` is required or unknown.
    """
    chosen = choose_device(device)
    if compile is not None:
        check_mode(compile)
    if weights not in (None, *get_args(Weights)):
        raise ValueError(f"weights must be one of {', '.join(get_args(Weights))}, found {weights!r}")
    if is_published(source):
        if weights is not None:
            raise ValueError(f"weights is for runs; {source} is a published checkpoint, which has one set of them")
        loaded = load_published_policy(source, statistics_key, features, image_orientation)
        policy = LampPolicy(
            loaded.model,
            loaded.state,
            loaded.action,
            loaded.pil_size,
            loaded.convention,
            loaded.state_names,
            loaded.statistics_key,
        )
    else:
        for name, value in (("features", features), ("image_orientation", image_orientation)):
            if value is not None:
                raise ValueError(f"{name} is for published checkpoints; {source} is a run, which knows its own")
        chosen_one = _embodiment(Path(source), finished_run(Path(source), 2).data, statistics_key)
        model, _ = load_model(Path(source), weights)
        policy = LampPolicy(
            model,
            chosen_one.state,
            chosen_one.action,
            action_convention=chosen_one.convention,
            state_names=chosen_one.state_names,
            statistics_key=chosen_one.name,
        )
    policy.model.place(chosen)
    if chosen.type == "cuda":
        policy.model.round_weights()
    if compile is not None:
        policy.model.compile_parts(compile)
    return policy


def _embodiment(run: Path, data: DataSource, name: str | None) -> Embodiment:
    try:
        found = embodiments_of(read_statistics(run), data.dataset, data.normalisation)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BadRun):
            raise
        lacks = "lacks " if isinstance(error, KeyError) else ""
        raise BadRun(f"{run / STATISTICS} does not read as statistics: {lacks}{first_line(error)}") from error
    if name is not None:
        return found[name]
    if len(found.members) == 1:
        return found.members[0]
    names = ", ".join(one.name for one in found.members)
    raise ValueError(
        f"{run} was trained on several datasets: choose whose actions are wanted with statistics_key=, one of {names}"
    )

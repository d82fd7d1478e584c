"""The policy as a robot uses it: raw images, words and state in, an action chunk out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from lamp_model import motion_tokens
from lamp_model.devices import autocast, choose_device
from lamp_model.model import PolicyModel
from lamp_model.normalisation import Range, range_of
from lamp_model.run_folder import load_model, read_statistics


class LampPolicy:
    """A trained policy.

    Attributes:
        model: frozen, in evaluation mode.
        state_range, action_range: of the data it was trained on.
    """

    def __init__(self, model: PolicyModel, state_range: Range, action_range: Range):
        self.model, self.state_range, self.action_range = model, state_range, action_range

    @property
    def cameras(self) -> tuple[str, ...]:
        """Roles of the images that ``predict`` takes, in order."""
        return self.model.config.cameras

    @torch.inference_mode()
    def predict(
        self,
        images: Sequence[np.ndarray],
        instruction: str,
        state: Sequence[float] | np.ndarray,
        seed: int = 0,
        return_motion: bool = False,
    ) -> Float[np.ndarray, "H A"] | tuple[Float[np.ndarray, "H A"], Float[np.ndarray, "K T 3"]]:
        """The next actions (paper, section 3.4).

        Args:
            images: for each of ``cameras`` an upright, unmirrored RGB image, uint8 [height, width, 3] of any size: as in the
                shards. LIBERO's environment gives them upside down; turn them first.
            instruction: what to do.
            state: proprioception in the convention of the training data.
            seed: decides the noise of motion and action; the same seed gives the same actions.
            return_motion: also run the whole motion, which acting does not need.

        Returns:
            Actions in the convention of the training data, float32; with ``return_motion`` also the increments (du, dv, dz) of
            the keypoint grid at each step (unit square; the depth unit of the training data).

        Raises:
            ValueError: an input has the wrong type, shape or number, or the instruction is empty.
        """
        self._check(images, instruction, state)
        device, config = self.model.device, self.model.config
        pictures = [torch.from_numpy(np.ascontiguousarray(image)).to(device)[None] for image in images]
        told = self.state_range.normalise(torch.as_tensor(np.asarray(state, np.float32)).to(device)[None])
        # Drawn on the CPU, so that a seed means the same everywhere.
        generator = torch.Generator().manual_seed(seed)
        motion_noise = torch.randn(self.model.motion_head.noise_shape(1), generator=generator).to(device)
        action_noise = torch.randn(1, config.action.chunk, config.action.action_size, generator=generator).to(device)
        with autocast(device):
            features = self.model.encode(pictures, [instruction])
            guided = self.model.guide(features, self.model.guidance_state(features, motion_noise))
            actions = self.model.act(guided, told, action_noise)
            motion = self.model.motion_head.rollout(features, motion_noise) if return_motion else None
        chunk = self.action_range.denormalise(actions.float())[0].cpu().numpy()
        if motion is None:
            return chunk
        return chunk, motion_tokens.denormalise(motion.float())[0].cpu().numpy()

    def _check(self, images: Sequence[np.ndarray], instruction: str, state: Sequence[float] | np.ndarray) -> None:
        if len(images) != len(self.cameras):
            raise ValueError(
                f"the policy looks at {len(self.cameras)} images ({', '.join(self.cameras)}), found {len(images)}"
            )
        for role, image in zip(self.cameras, images, strict=True):
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
                raise ValueError(f"the image {role!r} must be a uint8 array [height, width, 3] in RGB, found {found}")
        if not instruction.strip():
            raise ValueError("the instruction is empty: say in words what the robot is to do")
        shape = np.shape(state)
        if shape != (self.state_range.size,):
            raise ValueError(
                f"the state must be {self.state_range.size} numbers, found an array of shape {list(shape)}"
            )
        if not np.isfinite(np.asarray(state, np.float64)).all():
            raise ValueError("the state holds a value that is not finite")


def load_policy(run: str | Path, device: str = "auto") -> LampPolicy:
    """The policy of a finished stage 2 run.

    Args:
        run: its folder, e.g. ``runs/stage2``.
        device: ``auto`` takes a GPU when there is one.

    Raises:
        BadRun: there is no such run, or it has not finished.
        BadCheckpoint: its weights are damaged.
        ValueError: the device is not there.
    """
    chosen = choose_device(device)
    model, _ = load_model(Path(run))
    model.place(chosen)
    statistics = read_statistics(Path(run))
    return LampPolicy(model, range_of(statistics, "state"), range_of(statistics, "action"))

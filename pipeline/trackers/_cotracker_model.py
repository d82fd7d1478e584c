"""Finds and loads CoTracker3's code and weights, without executing pickles; failures are reported as one sentence."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.errors import LONGEST, first_line
from schemas.plugins import MissingDependency, MissingWeights

REPOSITORY = "facebookresearch/co-tracker:82e02e8029753ad4ef13cf06be7f4fc5facdda4d"
"""The published code, at the commit that this was written against."""
PUBLISHED = "https://huggingface.co/facebook/cotracker3/resolve/main/scaled_{mode}.pth"
TRAINED_SIZE = (384, 512)
"""Height and width in px at which CoTracker3 was trained, for code that does not say it."""
OTHERWISE = (
    "with a network run the same command again, without one give repo=FOLDER, a clone of its code, and weights=FILE"
)


@dataclass(frozen=True)
class Origin:
    """Where CoTracker3 comes from.

    Attributes:
        mode: which of its two models.
        repo: folder with a clone of its code; None for the published repository, fetched by torch.hub.
        weights: file with its weights; None for the published ones.
    """

    mode: Literal["offline", "online"]
    repo: str | None
    weights: str | None

    def load(self) -> Any:
        """Its predictor with weights, on the CPU.

        Raises:
            MissingWeights: code or weights cannot be found or downloaded, or belong to something else.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingDependency(
                f"cotracker3 needs {error.name}, which is not installed: pip install 'lamp-robotics[train]' brings it"
            ) from error
        torch.set_num_threads(
            1
        ) if not torch.cuda.is_available() else None  # one core per worker, and the same sums everywhere
        predictor = self._predictor()
        try:
            predictor.model.load_state_dict(self._state())
        except (RuntimeError, AttributeError, TypeError) as error:
            raise MissingWeights(
                f"the weights {self.weights or PUBLISHED.format(mode=self.mode)} are not those of "
                f"cotracker3_{self.mode}: {first_line(error, LONGEST)}"
            ) from error
        return predictor.requires_grad_(False).eval()

    def _predictor(self) -> Any:
        """The code's predictor without weights."""
        import torch

        entry = f"cotracker3_{self.mode}"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if self.repo is None:
                try:
                    trusted: Any = True  # the type stub expects a string
                    return torch.hub.load(
                        REPOSITORY, entry, pretrained=False, trust_repo=trusted, skip_validation=True, verbose=False
                    )
                except (OSError, ValueError, RuntimeError) as error:  # URLError is an OSError
                    raise MissingWeights(
                        "CoTracker3's code is not on this machine and cannot be fetched from GitHub "
                        f"({first_line(error, LONGEST)}); {OTHERWISE}"
                    ) from error
            if not (Path(self.repo) / "hubconf.py").is_file():
                raise MissingWeights(
                    "cotracker3.repo must be a folder with a clone of CoTracker3's code (it holds hubconf.py), "
                    f"found {self.repo!r}"
                )
            try:
                return torch.hub.load(self.repo, entry, source="local", pretrained=False)
            except Exception as error:  # the downloaded code may raise anything
                raise MissingWeights(f"{self.repo} gives no {entry}: {first_line(error, LONGEST)}") from error

    def _state(self) -> Any:
        """The weights, read without executing any code they contain."""
        import pickle

        import torch

        if self.weights is None:
            address = PUBLISHED.format(mode=self.mode)
            try:
                return torch.hub.load_state_dict_from_url(
                    address, map_location="cpu", weights_only=True, progress=False
                )
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                raise MissingWeights(
                    f"CoTracker3's weights are not on this machine and {address} cannot be had "
                    f"({first_line(error, LONGEST)}); {OTHERWISE}"
                ) from error
        if not Path(self.weights).is_file():
            raise MissingWeights(f"cotracker3.weights must be a file, found {self.weights!r}")
        try:
            return torch.load(self.weights, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise MissingWeights(f"the weights {self.weights} cannot be read: {first_line(error, LONGEST)}") from error

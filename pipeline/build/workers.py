"""First step of a build: makes and stores the samples of an episode (``pipeline.build.episode_store``)."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.actions import make_action_standard, with_standard_actions
from pipeline.build.episode_store import (
    EpisodeReport,
    LeftOut,
    MadeEpisode,
    Quarantined,
    Region,
    episode_key,
    library_versions,
    rows_of,
    write_episode,
)
from pipeline.build.episode_values import embodiment_of, episode_values, values_bytes
from pipeline.episodes.chunks import DEFAULT_CHUNKS, ChunkConfig
from pipeline.errors import BuildError
from pipeline.readers import make_reader
from pipeline.recipe import Recipe
from pipeline.timing import Stopwatch
from pipeline.windows.maker import SkippedCamera, TripletMaker
from schemas.devices import choose_device, kind_of_device
from schemas.episode import BadEpisode, Episode, EpisodeRef
from schemas.flow_quanta import FlowTooLarge
from schemas.sample_codec import encode_triplet
from schemas.shard_formats import webdataset
from schemas.triplet import ActionChunk, Rejected, Triplet

RejectedWindow = tuple[str, int, str, float | None]
"""Camera, frame, reason and measure (``schemas.triplet.Rejected``)."""


@dataclass(frozen=True)
class EncodedSample:
    """A window's sample as stored in a tar, with its values for the report and the statistics."""

    region: Region
    standard_actions: ActionChunk | None
    relative_depth: bool


class EpisodeMaker:
    """Makes the samples of episodes, in memory; it is built from the recipe in a worker process."""

    def __init__(self, recipe: Recipe, chunks: ChunkConfig = DEFAULT_CHUNKS):
        import cv2

        cv2.setNumThreads(1)
        self.recipe = recipe
        self.reader = make_reader(recipe.dataset)
        self.standard = make_action_standard(recipe.chosen_actions)
        self.maker = TripletMaker(recipe, chunks)
        self.device = None if recipe.device is None else kind_of_device(choose_device(recipe.device))

    def make(self, ref: EpisodeRef, watch: Stopwatch) -> MadeEpisode | Quarantined | LeftOut:
        """An episode's report, and its samples as stored in a tar."""
        try:
            with watch.stage("read"):
                episode = self.reader.read(ref)
            if self.recipe.language == "required" and not episode.instructions:
                return LeftOut(ref.source, ref.episode, "no_language")
            return self._make(ref, with_standard_actions(episode, self.standard), watch)
        except BadEpisode as error:
            return Quarantined.of(ref, error)

    def _make(self, ref: EpisodeRef, episode: Episode, watch: Stopwatch) -> MadeEpisode:
        windows: list[EncodedSample | RejectedWindow] = []
        skipped: dict[str, str] = {}
        for camera in self.maker.cameras(episode, lambda window: _encoded(window, watch), watch):
            if isinstance(camera, SkippedCamera):
                skipped[camera.camera] = camera.reason
            else:
                windows += camera.windows
        samples = [window for window in windows if isinstance(window, EncodedSample)]
        regions = [sample.region for sample in samples]
        values = values_bytes(episode_values(episode, [sample.standard_actions for sample in samples]))
        report = EpisodeReport(
            key=episode_key(self.recipe, ref),
            ref={"dataset": ref.dataset, "source": ref.source, "episode": ref.episode},
            episode=ref.digest,
            frames=episode.length,
            instructions=list(episode.instructions),
            success=episode.success,
            rejected_windows=[window for window in windows if not isinstance(window, EncodedSample)],
            rows=rows_of(regions),
            embodiment=embodiment_of(episode),
            value_bytes=len(values),
            notes=dict(episode.notes),
            skipped_cameras=skipped,
            relative_depth=sum(sample.relative_depth for sample in samples),
            seconds=watch.seconds,
            device=self.device,
        )
        return MadeEpisode(report, regions, values)


def _encoded(window: Triplet | Rejected, watch: Stopwatch) -> EncodedSample | RejectedWindow:
    """A window as it is stored."""
    if isinstance(window, Rejected):
        return window.camera, window.frame, window.reason, window.measure
    try:
        with watch.stage("encode sample"):
            packed = webdataset.pack_sample(window.key, encode_triplet(window))
    except FlowTooLarge:
        return window.source.camera, window.source.frame, "flow_too_large", None
    region = (window.key, window.episode, packed)
    return EncodedSample(region, window.standard_actions, window.depth_unit == "relative")


def check_versions(recipe: Recipe, expected: Mapping[str, str]) -> None:
    """Refuse libraries that would give other pixels than the driver's.

    Args:
        expected: ``pipeline.build.episode_store.library_versions`` on the driver's machine.

    Raises:
        BuildError: one has another version here.
    """
    for name, here in library_versions(recipe).items():
        if expected.get(name) != here:
            raise BuildError(
                f"the machine {socket.gethostname()} has {name} {here} and the driver's has {expected.get(name)}, "
                "which may give other pixels: install the same versions on every node"
            )


class EpisodeWorker:
    """Makes episodes and stores them."""

    def __init__(self, recipe: Recipe, folder: Path, chunks: ChunkConfig = DEFAULT_CHUNKS):
        self.maker, self.folder = EpisodeMaker(recipe, chunks), folder

    def __call__(self, ref: EpisodeRef) -> EpisodeReport | Quarantined | LeftOut:
        """Make and store one episode.

        Raises:
            OSError: it cannot be written.
        """
        watch = Stopwatch()
        made = self.maker.make(ref, watch)
        if isinstance(made, Quarantined | LeftOut):
            return made
        with watch.stage("write"):
            write_episode(self.folder, made)
        return made.report

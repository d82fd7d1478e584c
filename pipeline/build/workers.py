"""Stage one of a build: the samples of an episode are made and stored (``pipeline.build.episode_store``)."""

from collections import Counter
from pathlib import Path

from pipeline.actions import make_action_standard, with_standard_actions
from pipeline.build.episode_store import (
    EpisodeReport,
    LeftOut,
    MadeEpisode,
    Quarantined,
    Region,
    episode_key,
    rows_of,
    write_episode,
)
from pipeline.build.episode_values import embodiment_of, episode_values, values_bytes
from pipeline.readers import make_reader
from pipeline.recipe import Recipe
from pipeline.timing import Stopwatch
from pipeline.windows.maker import SkippedCamera, TripletMaker
from schemas.episode import BadEpisode, Episode, EpisodeRef
from schemas.flow_quanta import FlowTooLarge
from schemas.sample_codec import encode_triplet
from schemas.shard_formats import webdataset
from schemas.triplet import ActionChunk, Rejected


class EpisodeMaker:
    """Makes the samples of episodes, in memory; lives in a worker process and is built there from the recipe."""

    def __init__(self, recipe: Recipe):
        import cv2

        cv2.setNumThreads(1)
        self.recipe = recipe
        self.reader = make_reader(recipe.dataset)
        self.standard = make_action_standard(recipe.chosen_actions)
        self.maker = TripletMaker(recipe)

    def make(self, ref: EpisodeRef, watch: Stopwatch) -> MadeEpisode | Quarantined | LeftOut:
        """What is to be known of an episode, and its samples as they stand in a tar."""
        try:
            with watch.stage("read"):
                episode = self.reader.read(ref)
            if self.recipe.language == "required" and not episode.instructions:
                return LeftOut(ref.source, ref.episode, "no_language")
            return self._make(ref, with_standard_actions(episode, self.standard), watch)
        except BadEpisode as error:
            return Quarantined.of(ref, error)

    def _make(self, ref: EpisodeRef, episode: Episode, watch: Stopwatch) -> MadeEpisode:
        rejected: list[tuple[str, int, str, float | None]] = []
        skipped: dict[str, str] = {}
        regions: dict[str, list[Region]] = {}
        chunks: dict[str, list[ActionChunk | None]] = {}
        relative: Counter[str] = Counter()
        for made in self.maker.make(episode, watch):
            if isinstance(made, SkippedCamera):
                skipped[made.camera] = made.reason
                for of_camera in (regions, chunks, relative):
                    of_camera.pop(made.camera, None)
                rejected = [window for window in rejected if window[0] != made.camera]
                continue
            if isinstance(made, Rejected):
                rejected.append((made.camera, made.frame, made.reason, made.measure))
                continue
            try:
                with watch.stage("encode sample"):
                    region = webdataset.pack_sample(made.key, encode_triplet(made))
            except FlowTooLarge:
                rejected.append((made.source.camera, made.source.frame, "flow_too_large", None))
                continue
            camera = made.source.camera
            regions.setdefault(camera, []).append((made.key, made.episode, region))
            chunks.setdefault(camera, []).append(made.standard_actions)
            relative[camera] += made.depth_unit == "relative"
        values = values_bytes(episode_values(episode, [chunk for some in chunks.values() for chunk in some]))
        samples = [region for some in regions.values() for region in some]
        report = EpisodeReport(
            key=episode_key(self.recipe, ref),
            ref={"dataset": ref.dataset, "source": ref.source, "episode": ref.episode},
            episode=ref.digest,
            frames=episode.length,
            instructions=list(episode.instructions),
            success=episode.success,
            rejected_windows=rejected,
            rows=rows_of(samples),
            embodiment=embodiment_of(episode),
            value_bytes=len(values),
            notes=dict(episode.notes),
            skipped_cameras=skipped,
            relative_depth=relative.total(),
            seconds=watch.seconds,
        )
        return MadeEpisode(report, samples, values)


class EpisodeWorker:
    """Makes episodes and stores them."""

    def __init__(self, recipe: Recipe, folder: Path):
        self.maker, self.folder = EpisodeMaker(recipe), folder

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

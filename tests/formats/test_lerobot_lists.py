"""LeRobot v3.0's list of episodes against its tables and videos: what they agree on is read as LeRobot reads it, and an
episode on which they disagree is refused by name.
"""

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.lerobot import encode_video, moving, write_lerobot
from formats.test_lerobot import CAMERA, LENGTHS, VERSIONS, refs_in, state_of, write

from pipeline.formats.lerobot import read_lerobot
from pipeline.formats.video import first_frame, read_video
from schemas.episode import BadEpisode

LIST = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-000.parquet"
STARTS = np.cumsum((0, *LENGTHS))


def edit(dataset, change, file=LIST):
    """Change the rows of a table in place."""
    rows = pq.read_table(dataset / file).to_pylist()
    pq.write_table(pa.Table.from_pylist(change(rows) or rows), dataset / file)


def repack(path, container):
    """Put a video's packets into another container."""
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".other")), "w", format=container) as made:
        stream = made.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    path.with_suffix(".other").replace(path)


def apart(number, frames):
    """How far the frames are from those of an episode."""
    return np.abs(frames.astype(int) - moving(len(frames), seed=number)).mean()


def outcomes(dataset):
    """For each listed episode its own number when its rows and pictures are right, or its code."""
    found = {}
    for ref in refs_in(dataset):
        number = int(ref.episode[-6:])
        try:
            episode = read_lerobot(ref)
            frames = read_video("x", episode.video(CAMERA))
        except BadEpisode as error:
            found[number] = error.code
            continue
        assert len(frames) == LENGTHS[number] and apart(number, frames) < 6
        assert np.array_equal(episode.array("state"), state_of(number))
        assert np.array_equal(first_frame("x", episode.video(CAMERA)), frames[0])
        found[number] = number
    return found


@pytest.fixture(params=[True, False], ids=["numbered", "all episode_index 0"])
def numbered(request):
    return request.param


def write_v3(folder, numbered=True):
    return write(folder, "v3.0", numbered=numbered)


def test_an_episode_taken_out_of_the_list_shifts_no_other(tmp_path, numbered):
    for gone in range(3):
        dataset = write_v3(tmp_path / str(gone), numbered)
        edit(dataset, lambda rows, gone=gone: [row for row in rows if row["episode_index"] != gone])
        assert outcomes(dataset) == {number: number for number in range(3) if number != gone}


def test_an_episode_listed_under_another_file_is_the_only_one_refused(tmp_path, numbered):
    dataset = write_v3(tmp_path, numbered)
    table = pq.read_table(dataset / DATA)
    for number, rows in enumerate((table.slice(0, STARTS[1]), table.slice(STARTS[1]))):
        pq.write_table(rows, dataset / f"data/chunk-000/file-00{number}.parquet")

    def second(rows):
        rows[2]["data/file_index"] = 1

    edit(dataset, second)
    assert outcomes(dataset) == {0: 0, 1: "rows_mismatch", 2: 2}
    says = r"episode_000001: the list gives it the rows with index 12 to 20 of .*file has 0 to 11"
    with pytest.raises(BadEpisode, match=says):
        read_lerobot(refs_in(dataset)[1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dataset_from_index": 3, "dataset_to_index": 15}, "frame_index does not count its 12 rows"),
        ({"dataset_to_index": 11}, "the list gives it 12 rows and index 0 to 10"),
        ({"length": 11, "dataset_to_index": 11}, "has 12 rows of it by their episode_index, the list says 11"),
    ],
)
def test_a_list_that_contradicts_the_table_is_refused(tmp_path, change, says):
    dataset = write_v3(tmp_path)
    edit(dataset, lambda rows: rows[0].update(change))
    with pytest.raises(BadEpisode, match=says) as error:
        read_lerobot(refs_in(dataset)[0])
    assert error.value.code == "rows_mismatch"


def test_episodes_whose_places_in_the_list_are_exchanged_are_refused(tmp_path):
    episodes = [{"task": "x", "columns": {"state": np.full((6, 1), n)}} for n in range(3)]
    dataset = write_lerobot(tmp_path / "set", "v3.0", episodes)

    def exchange(rows):
        for key in ("dataset_from_index", "dataset_to_index"):
            rows[0][key], rows[1][key] = rows[1][key], rows[0][key]

    edit(dataset, exchange)
    for ref, other in zip(refs_in(dataset)[:2], (1, 0), strict=True):
        with pytest.raises(BadEpisode, match=f"are those of episode {other} by their episode_index"):
            read_lerobot(ref)
    assert (read_lerobot(refs_in(dataset)[2]).array("state") == 2).all()


def test_a_longer_recording_than_listed_is_refused_where_numbers_are_not_unique(tmp_path):
    dataset = write_v3(tmp_path, numbered=False)
    edit(dataset, lambda rows: rows[0].update(length=11, dataset_to_index=11))
    with pytest.raises(BadEpisode, match="has more rows of it than the 11"):
        read_lerobot(refs_in(dataset)[0])


def test_a_file_of_another_episode_is_refused(tmp_path):
    dataset = write(tmp_path, "v2.1")
    edit(dataset, lambda rows: [{**row, "episode_index": 2} for row in rows], "data/chunk-000/episode_000001.parquet")
    with pytest.raises(BadEpisode, match="are those of episode 2 by their episode_index") as error:
        read_lerobot(refs_in(dataset)[1])
    assert error.value.code == "rows_mismatch" and read_lerobot(refs_in(dataset)[2]).length == LENGTHS[2]


# Videos.

LONGEST = {"length": 1 << 50, "dataset_to_index": 21 + (1 << 50)}
START, END = f"videos/{CAMERA}/from_timestamp", f"videos/{CAMERA}/to_timestamp"


def test_two_episodes_that_claim_the_same_seconds_are_both_refused(tmp_path):
    dataset = write_v3(tmp_path)

    def same(rows):
        rows[2][START] = rows[0][START]
        rows[2][END] = rows[0][START] + LENGTHS[2] / 20

    edit(dataset, same)
    assert outcomes(dataset) == {0: "video_overlap", 1: 1, 2: "video_overlap"}
    with pytest.raises(BadEpisode, match=r"episodes 0 and 2 both claim file-000.mp4 from 0.000 s on"):
        read_lerobot(refs_in(dataset)[2]).video(CAMERA)


@pytest.mark.parametrize(("frames", "code"), [(0.1, 1), (-0.2, 1), (0.3, "timestamps_off"), (0.95, "timestamps_off")])
def test_a_start_off_the_grid_is_the_nearest_frame_or_refused(tmp_path, frames, code):
    """0.95 lies near a frame again: the next one, which would be wrong."""
    dataset = write_v3(tmp_path)

    def drift(rows):
        for row in rows:
            for key in (START, END):
                row[key] += row["episode_index"] * frames / 20

    edit(dataset, drift)
    found = outcomes(dataset)
    assert found[0] == 0 and found[1] == code and found[2] == (2 if abs(frames) <= 0.1 else "timestamps_off")


@pytest.mark.parametrize("changes", [{START: np.inf}, {END: np.nan}, LONGEST])
def test_nonsense_in_the_list_costs_only_its_episode(tmp_path, changes):
    dataset = write_v3(tmp_path)
    edit(dataset, lambda rows: rows[2].update(changes))
    found = outcomes(dataset)
    assert (found[0], found[1]) == (0, 1) and found[2] in ("video_span", "rows_mismatch")


@pytest.mark.parametrize("by", [-1, 1, 4])
def test_a_part_of_a_video_that_is_not_as_long_as_its_rows_is_refused(tmp_path, by):
    dataset = write_v3(tmp_path)
    edit(dataset, lambda rows: rows[2].update({END: rows[2][END] + by / 20}))
    assert outcomes(dataset) == {0: 0, 1: 1, 2: "video_span"}


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_trimmed_at_the_front_keep_their_pictures(tmp_path, version):
    """Their timestamps begin above 0, and the video is as it was."""
    dataset, cut = write(tmp_path, version), 4
    number = 0 if version == "v3.0" else 1
    file = DATA if version == "v3.0" else "data/chunk-000/episode_000001.parquet"

    def trim(rows):
        kept = [row for row in rows if row["episode_index"] != number or row["frame_index"] >= cut]
        for place, row in enumerate(kept):
            row["index"] = place
            row["frame_index"] -= cut * (row["episode_index"] == number)
        return kept

    edit(dataset, trim, file)
    if version == "v3.0":

        def shorter(rows):
            for row in rows:
                row["length"] -= cut * (row["episode_index"] == 0)
                row["dataset_from_index"] -= cut * (row["episode_index"] > 0)
                row["dataset_to_index"] -= cut

        edit(dataset, shorter)
    else:
        path = dataset / "meta/episodes.jsonl"
        path.write_text(path.read_text().replace(f'"length": {LENGTHS[1]}', f'"length": {LENGTHS[1] - cut}'))
    episode = read_lerobot(refs_in(dataset)[number])
    frames = read_video("x", episode.video(CAMERA)).astype(int)
    expected = moving(LENGTHS[number], seed=number)
    assert np.array_equal(episode.array("state"), state_of(number)[cut:])
    assert (np.abs(frames[:, None] - expected[None]).mean((2, 3, 4)).argmin(1) == np.arange(cut, LENGTHS[number])).all()


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_clock_that_runs_before_the_first_picture_moves_no_picture(tmp_path, container):
    """As in published v2.0 sets: timestamps begin at 1 / fps, and there are as many pictures as rows. Matroska's header
    does not say how many pictures there are."""
    dataset = write(tmp_path, "v2.1")
    if container != "mp4":
        repack(dataset / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", container)
    file = "data/chunk-000/episode_000001.parquet"
    edit(dataset, lambda rows: [{**row, "timestamp": row["timestamp"] + 1 / 20} for row in rows], file)
    assert outcomes(dataset) == {0: 0, 1: 1, 2: 2}


def test_a_video_of_twice_the_rate_is_read_at_the_times_of_the_rows(tmp_path):
    dataset = write(tmp_path, "v2.1")
    frames = moving(2 * LENGTHS[2] - 1, seed=3)
    encode_video(dataset / f"videos/chunk-000/{CAMERA}/episode_000002.mp4", frames, 40)
    shown = read_video("x", read_lerobot(refs_in(dataset)[2]).video(CAMERA)).astype(int)
    assert (np.abs(shown[:, None] - frames[None]).mean((2, 3, 4)).argmin(1) == np.arange(0, len(frames), 2)).all()


def test_a_table_whose_rows_are_later_than_the_video_is_refused(tmp_path):
    dataset = write(tmp_path, "v2.1")
    encode_video(dataset / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", moving(LENGTHS[0] + 4), 20)
    edit(
        dataset,
        lambda rows: [{**row, "timestamp": row["timestamp"] + 2.0} for row in rows],
        "data/chunk-000/episode_000000.parquet",
    )
    with pytest.raises(BadEpisode) as error:
        read_video("x", read_lerobot(refs_in(dataset)[0]).video(CAMERA))
    assert error.value.code == "video_too_short"

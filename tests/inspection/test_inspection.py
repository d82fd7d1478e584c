"""Looking at shards: the numbers are those of the flow, every damage is named, every mistake gets a sentence."""

import dataclasses
import itertools
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fixtures.command import ROOT
from fixtures.inspection import STEP, inspect, known_triplet, seen, several, write_set
from fixtures.shard import write_shards
from fixtures.triplet import make_triplet

from pipeline.inspection import shard_paths as collections
from pipeline.inspection.flow_statistics import FlowStatistics, measure, positions
from pipeline.inspection.histogram import Histogram
from pipeline.inspection.ranking import APART, choose
from pipeline.inspection.shard_paths import CannotInspect, open_collection
from pipeline.inspection.summary import Candidate, evenly, summarise
from schemas.cameras import lift
from schemas.flow_quanta import QUANTUM_PX
from schemas.perception import DepthAlignment
from schemas.sample_codec import encode_triplet
from schemas.shard_formats import write_shard
from schemas.triplet import GeneratedInstruction


def test_the_page_and_the_datasets_build_on_the_shards_and_not_the_other_way_round():
    modules = sorted((ROOT / "pipeline" / "inspection").glob("*.py"))
    assert modules and not any(re.search(r"inspection_(page|datasets)", path.read_text()) for path in modules)


# ---- numbers
# -----------------------------------------------------------------------------------------------------------


def test_ranges_are_those_of_the_known_flow(tmp_path):
    t = known_triplet(moving=100)
    code, facts = seen(write_set(tmp_path, [t]))
    (flow,) = facts["flow_ranges"]
    assert code == 0
    assert flow["share_moving"] == flow["share_flagged"]["static"] / 3 == 0.25
    assert flow["share_exactly_still"] == 0.75
    assert flow["share_visible"] == flow["share_valid"] == 1
    for name, value in zip(("du_px", "dv_px", "dz"), STEP, strict=True):
        step = flow["moving"]["step"][name]
        assert [step["min"], step["p50"], step["max"]] == pytest.approx([value] * 3, abs=1e-5)
        assert flow["all"]["step"][name]["p50"] == 0
    xyz = lift(positions(t), t.camera.intrinsics)
    space = np.linalg.norm(xyz[:100, -1] - xyz[:100, 0], axis=-1)
    total = flow["moving"]["total"]
    assert total["image_px"]["max"] == pytest.approx(32 * np.hypot(*STEP[:2]), abs=0.02)
    assert total["depth"]["p50"] == pytest.approx(0.032, abs=1e-6)
    assert total["space"]["max"] == pytest.approx(space.max(), abs=1e-4)
    assert total["space"]["p50"] == pytest.approx(np.sort(space)[49], abs=1e-4)
    assert flow["reference_depth"]["min"] == flow["reference_depth"]["max"] == 1


def test_what_lies_after_the_episode_or_is_not_valid_does_not_count(tmp_path):
    t = known_triplet(moving=100, inside=11)
    t.flow.visible[:200, 3] = False
    t.flow.valid[0, 1:] = False
    t.flow.valid[1, 0] = False  # without a reference position there is no displacement
    measured = measure(t)
    assert measured.inside.sum() == 11
    assert not measured.moving[:2].any()
    assert not measured.displacement[1].any()
    statistics = FlowStatistics("m")
    statistics.add(t, measured)
    flow = statistics.result()
    assert flow["past_episode_end"] == 1
    assert flow["share_moving"] == 98 / 400
    assert flow["share_visible"] == pytest.approx(1 - 200 / 4400)
    assert flow["share_valid"] == pytest.approx(1 - 11 / 4400)
    assert flow["moving"]["total"]["depth"]["max"] == pytest.approx(0.010, abs=1e-6)


def test_increments_beyond_the_motion_scale_are_counted():
    t = known_triplet(moving=100)
    t.flow.uvz[0, 5:, 0] += 0.051  # one step of one point leaves [-1, 1] in u
    statistics = FlowStatistics("m")
    statistics.add(t, measure(t))
    assert statistics.result()["share_beyond_motion_scale"] == {"du": 1 / 12800, "dv": 0, "dz": 0}


def test_relative_depth_is_never_called_metres(tmp_path):
    folder = write_set(tmp_path, [known_triplet(depth_unit="relative", depth_alignment=None)])
    said: list[str] = []
    assert inspect(folder, say=said.append, html=tmp_path / "page.html") == 0
    text = "\n".join(said)
    assert "depth in relative" in text
    assert not re.search(r"\b(cm|mm)\b", text)
    page_text = re.sub(
        r"<(script|style).*?</\1>|src='[^']*'", "", (tmp_path / "page.html").read_text(), flags=re.DOTALL
    )
    assert "relative, towards" in page_text
    assert not re.search(r"\b(cm|mm)\b", page_text)


def test_percentiles_of_the_histogram_are_those_of_the_values():
    values = np.random.default_rng(0).integers(-500, 4000, 10_000) * QUANTUM_PX
    histogram = Histogram(QUANTUM_PX)
    for part in np.array_split(values, 7):
        histogram.add(part)
    for percent in (0, 1, 5, 50, 95, 99, 100):
        expected = np.percentile(values, percent, method="inverted_cdf")
        assert histogram.percentile(percent) == pytest.approx(expected, abs=1e-9)
    assert Histogram(1).percentile(50) is None


def test_evenly_spread_numbers_are_distinct_and_cover_the_whole():
    for total in (0, 1, 2, 7, 100, 1_600_000):
        for limit in (1, 3, 99, 400):
            numbers = evenly(total, limit)
            assert len(numbers) == min(total, limit)
            assert len(set(numbers.tolist())) == len(numbers)
            if total:
                assert 0 <= numbers.min() <= numbers.max() < total
                gaps = np.diff([-1, *numbers, total])
                assert gaps.max() <= 2 * (total / len(numbers)) + 1


def test_samples_that_move_most_differ_in_episode_and_moment():
    """Twenty windows of episode one, the first the liveliest, and three of episode two that move less."""
    candidates = [Candidate(i, Path("s"), i, f"k{i:03d}", "one", 5 * i, 100 - i) for i in range(20)]
    candidates += [Candidate(20 + i, Path("s"), 20 + i, f"k{20 + i:03d}", "two", 5 * i, 85 + i) for i in range(3)]
    chosen = choose(candidates, 18, "moving")
    assert [(c.episode, c.frame) for c in chosen[:3]] == [("one", 0), ("two", 10), ("one", 75)]
    for a, b in itertools.combinations(chosen, 2):
        assert a.episode != b.episode or abs(a.frame - b.frame) >= APART
    assert len(chosen) < 18, "windows that look alike are not shown to fill the sheet"
    assert choose(candidates[:1], 4, "moving") == candidates[:1] and choose([], 4, "moving") == []
    still = [Candidate(i, Path("s"), i, f"k{i}", "dull", 40 * i, 0.0) for i in range(5)]
    assert not {c.episode for c in choose(candidates + still, 4, "moving")} & {"dull"}


# ---- what is shown
# -----------------------------------------------------------------------------------------------------


def test_words_and_counts(tmp_path):
    triplets = several(5)
    triplets[4] = dataclasses.replace(triplets[4], instructions=("  ",), fps=10.0, episode="f" * 16)
    code, facts = seen(write_set(tmp_path, triplets))
    assert code == 0
    assert (facts["samples"], facts["episodes"], facts["shards"]) == (5, 2, 3)
    assert facts["bytes"] == sum(p.stat().st_size for p in tmp_path.glob("*.tar"))
    assert facts["instructions"] == dict.fromkeys(triplets[0].instructions, 4)
    assert facts["samples_without_instruction"] == 1
    assert facts["fps"] == {"20": 4, "10": 1}
    assert facts["counts"]["rejected"] == {"no_motion": 3, "too_short": 1}
    pictures = np.mean([sum(map(len, t.images.values())) for t in triplets])
    assert facts["bytes_per_sample"]["pictures"] == pytest.approx(pictures)
    assert facts["bytes_per_sample"]["all"] == facts["bytes"] / 5
    said: list[str] = []
    inspect(tmp_path, say=said.append)
    assert "kept 5; rejected 4 (no_motion 3, too_short 1); quarantined 2 (no_depth 2)" in said[0]
    assert "2 different; 1 sample without any" in said[0]


def test_both_formats_and_every_way_in_show_the_same(tmp_path):
    triplets = several(4)
    tar = write_set(tmp_path / "tar", triplets, per_shard=4)
    zarr = write_set(tmp_path / "zarr", triplets, "zarr", per_shard=4)
    ranges = seen(tar)[1]["flow_ranges"]
    for path in (zarr, tar / "manifest.json", next(tar.glob("*.tar")), next(zarr.glob("*.zarr"))):
        code, facts = seen(path)
        assert (code, facts["flow_ranges"], facts["dataset"]["name"]) == (0, ranges, "test")
    (tar / "manifest.json").unlink()
    code, facts = seen(tar)
    assert (code, facts["flow_ranges"], facts["finished"]) == (0, ranges, False)
    assert "has not finished" in facts["notes"][0]


def test_a_sample_is_found_by_key_and_by_number_and_shown_in_full(tmp_path):
    triplets = several(5)
    folder = write_set(tmp_path, triplets)
    for number, t in enumerate(triplets):
        code, by_key = seen(folder, sample=t.key)
        assert (code, by_key) == (0, seen(folder, sample=str(number))[1])
        assert (by_key["number"], by_key["key"], by_key["source"]) == (number, t.key, vars(t.source))
    facts = seen(folder, sample="3")[1]
    t = triplets[3]
    assert facts["state"] == pytest.approx(dict(zip(t.state_names, t.state.tolist(), strict=True)))
    assert np.allclose(facts["actions"]["values"], t.actions, atol=1e-6)
    assert facts["actions"]["mask"] == t.action_mask.tolist()
    assert facts["camera"]["intrinsics"] == t.camera.intrinsics.tolist()
    assert facts["moving_points"] == 30
    assert facts["point_flags"]["static"] == 370
    said: list[str] = []
    inspect(folder, sample="3", say=said.append)
    for word in (
        t.key,
        t.source.file,
        "frame 5",
        "fx 99.50",
        t.action_convention.name,
        t.state_names[3],
        *t.instructions,
    ):
        assert word in said[0]


def test_a_limit_is_kept_and_said(tmp_path):
    folder = write_set(tmp_path, several(6))
    said: list[str] = []
    inspect(folder, limit=3, verify=False, say=said.append)
    assert "3 of 6 samples, evenly spread" in said[0]
    assert "the rest was not checked" in said[0]
    code, facts = seen(folder, limit=3)
    assert (code, facts["samples_read"], facts["samples_measured"]) == (0, 6, 3)
    moving = [m / 400 for m in (10, 30, 50)]
    assert facts["flow_ranges"][0]["share_moving"] == pytest.approx(np.mean(moving))


def test_shards_are_open_one_at_a_time(tmp_path, monkeypatch):
    folder, now, most = write_set(tmp_path, several(6)), [0], [0]
    real = collections.open_shard

    def counted(path):
        shard, close = real(path), None
        now[0] += 1
        most[0] = max(most[0], now[0])
        close = shard.close

        def closing():
            now[0] -= 1
            close()

        shard.close = closing
        return shard

    monkeypatch.setattr(collections, "open_shard", counted)
    summarise(open_collection(folder))
    assert (now[0], most[0]) == (0, 1)


# ---- integrity
# ---------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found_and_laid_to_its_sample(tmp_path):
    folder = write_set(tmp_path, several(3), per_shard=3)
    shard = next(folder.glob("*.tar"))
    whole = shard.read_bytes()
    index = np.load(next(folder.glob("*.npy")))
    for place in np.random.default_rng(0).integers(0, len(whole) - 1024, 12):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(place % 8)
        shard.write_bytes(broken)
        code, facts = seen(folder, limit=1)
        row = int(np.searchsorted(index["offset"], place, side="right")) - 1
        samples = [f["sample"] for f in facts["failures"] if f["sample"]]
        assert (code, samples) == (1, [index["key"][row].decode()])
        assert any("SHA-256" in f["problem"] and f["file"] == str(shard) for f in facts["failures"])


def _cut(folder: Path) -> str:
    path = sorted(folder.glob("*.tar"))[1]
    path.write_bytes(path.read_bytes()[:-2000])
    return path.name


def _lose(folder: Path) -> str:
    path = sorted(folder.glob("*.tar"))[1]
    path.unlink()
    return path.name


def _lose_index(folder: Path) -> str:
    path = sorted(folder.glob("*.npy"))[1]
    path.unlink()
    return path.name


def _other_statistics(folder: Path) -> str:
    (folder / "episodes.jsonl").write_text("{ }\n")
    return "episodes.jsonl"


def _swap(folder: Path) -> str:
    for end in (".tar", ".index.npy"):
        one, two = (folder / f"set-{i:05d}{end}" for i in (0, 2))
        first = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(first)
    return "set-00000.tar"


def _manifest(folder: Path) -> str:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("CC0", "MIT"))
    return "manifest.json"


@pytest.mark.parametrize("damage", [_cut, _lose, _lose_index, _other_statistics, _swap, _manifest])
def test_damage_is_named_and_the_rest_is_still_shown(tmp_path, damage):
    folder = write_set(tmp_path, several(6))
    name = damage(folder)
    code, facts = seen(folder)
    assert code == 1
    assert any(name in f["file"] + f["problem"] for f in facts["failures"])
    assert facts["samples"] >= 4
    said: list[str] = []
    inspect(folder, say=said.append, html=folder / "page.html")
    assert name in said[0].split("integrity:")[1]
    assert "failure" in (folder / "page.html").read_text()


def test_a_key_that_occurs_twice_is_found(tmp_path):
    triplets = several(4)
    folder = write_set(tmp_path, [*triplets[:3], triplets[0]])
    code, facts = seen(folder)
    assert code == 1
    assert "row 1 repeats the key" in facts["failures"][0]["problem"]
    assert facts["failures"][0]["file"].endswith("set-00002.tar")


def test_an_index_that_names_another_episode_is_found(tmp_path):
    t = several(1)[0]
    write_shard("webdataset", tmp_path, "set", [(t.key, "f" * 16, encode_triplet(t))])
    code, facts = seen(tmp_path / "set.tar")
    assert (code, facts["failures"][0]["sample"]) == (1, t.key)


def test_a_picture_of_another_size_than_its_camera_is_found(tmp_path):
    t = make_triplet(seed=2, size=(64, 64))
    folder = write_set(tmp_path, [known_triplet(images=t.images)])
    code, facts = seen(folder)
    assert code == 1
    assert "its picture is 64 x 64, its camera says 128 x 96" in facts["failures"][0]["problem"]


def test_the_fixture_of_the_other_tests_is_whole(tmp_path):
    code, facts = seen(write_shards(tmp_path))
    assert (code, facts["failures"]) == (0, [])


# ---- people's mistakes
# -------------------------------------------------------------------------------------------------


def _refused(path: Path, **options) -> CannotInspect:
    with pytest.raises(CannotInspect) as caught:
        inspect(path, say=lambda text: None, **options)
    assert str(caught.value).count("\n") == 0
    return caught.value


def test_what_is_no_shard_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "inner").mkdir()
    note = tmp_path / "note.txt"
    note.write_text("hello")
    with tarfile.open(tmp_path / "foreign.tar", "w") as tar:
        tar.add(note, "note.txt")
    (tmp_path / "empty.tar").touch()
    (tmp_path / "bad.zarr").mkdir()
    (tmp_path / "some.json").write_text("[1, 2]")
    cases = {"inner": 2, "note.txt": 2, "nothing": 2, "foreign.tar": 1, "empty.tar": 1, "bad.zarr": 1, "some.json": 1}
    for name, code in cases.items():
        error = _refused(tmp_path / name)
        assert (error.exit_code, name in str(error)) == (code, True), str(error)


def test_wrong_options_are_refused_in_a_sentence(tmp_path):
    folder = write_set(tmp_path / "set", several(3))
    assert "numbered from 0" in str(_refused(folder, sample="3"))
    assert "no sample 'abc'" in str(_refused(folder, sample="abc"))
    assert ".png" in str(_refused(folder, picture=tmp_path / "picture.doc"))
    assert "--limit" in str(_refused(folder, limit=0))
    (tmp_path / "file").touch()
    assert "cannot be written" in str(_refused(folder, html=tmp_path / "file" / "page.html"))
    damaged = bytearray((folder / "set-00000.tar").read_bytes())
    damaged[700] ^= 1
    (folder / "set-00000.tar").write_bytes(damaged)
    assert _refused(folder, sample="0").exit_code == 1


# ---- what samples say of themselves
# ------------------------------------------------------------------------------------


def test_what_the_checks_measured_is_shown_with_the_thresholds(tmp_path):
    shares = [0.5, 0.625, 1.0]
    triplets = [
        dataclasses.replace(t, quality={"valid_share": v, "steps": 32.0})
        for t, v in zip(several(3), shares, strict=True)
    ]
    folder = write_set(tmp_path, triplets)
    code, facts = seen(folder)
    assert code == 0 and facts["quality"]["valid_share"] == {"min": 0.5, "p50": 0.625, "max": 1.0}
    said: list[str] = []
    inspect(folder, say=said.append)
    assert re.search(r"share of keypoints and steps that are valid +50\.0% +62\.5% +100\.0%", said[0])
    assert seen(folder, sample="1")[1]["quality"]["valid_share"] in shares


def test_generated_words_outcomes_and_aligned_depth_are_told_apart(tmp_path):
    aligned = DepthAlignment("plane", 2.0, 0.1, 0.0125, "m", 900, 0.75)
    written = (GeneratedInstruction("please lift it", "request", "a model at 1"),)
    triplets = several(3, depth_alignment=None)
    triplets[0] = dataclasses.replace(triplets[0], depth_alignment=aligned, success=False, generated_instructions=())
    triplets[1] = dataclasses.replace(triplets[1], success=None, generated_instructions=written)
    triplets[2] = dataclasses.replace(triplets[2], generated_instructions=written)
    folder = write_set(tmp_path, triplets)
    code, facts = seen(folder)
    assert (code, facts["success"]) == (0, {"no": 1, "not said": 1, "yes": 1})
    assert facts["generated_instructions"] == {"request, by a model at 1": 2}
    assert "please lift it" not in facts["instructions"]
    said: list[str] = []
    inspect(folder, say=said.append)
    assert "request, by a model at 1 (2)" in said[0] and "1.25 cm off its anchors" in said[0]
    found = [seen(folder, sample=str(n))[1] for n in range(3)]
    assert [f["depth"]["alignment"] for f in found if f["depth"]["alignment"]] == [vars(aligned)]
    number = next(f["number"] for f in found if f["generated_instructions"])
    inspect(folder, sample=str(number), html=tmp_path / "page.html", say=said.append)
    assert "please lift it (by a model at 1)" in said[-1]
    assert "please lift it <i>(request, generated)</i>" in (tmp_path / "page.html").read_text()

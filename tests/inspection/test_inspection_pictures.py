"""Pictures and page of shards: drawn where the flow goes, and data cannot steer page or terminal."""

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from fixtures.inspection import SIZE, STEP, inspect, known_triplet, several, write_set
from fixtures.triplet import make_triplet
from matplotlib.collections import LineCollection

from pipeline.inspection.flow_statistics import measure, positions
from pipeline.inspection.pictures import draw_sample, draw_sheet
from pipeline.inspection.rejections import read_rejections
from pipeline.inspection.sample import Found
from pipeline.inspection.shard_paths import open_collection
from pipeline.inspection.summary import summarise
from pipeline.inspection_page.contents import Contents, RejectedPicture
from pipeline.inspection_page.data import flow_data
from pipeline.inspection_page.page import page
from schemas.episode import ActionConvention
from schemas.scene_flow import SceneFlow, keypoint_grid


def test_lines_are_drawn_where_the_points_go():
    t = known_triplet(moving=3)
    t.flow.visible[0, 10:] = False  # hidden but known
    t.flow.valid[1, 20:] = False  # not known
    t.flow.visible[1, 20:] = False
    figure = draw_sample(t)
    axes = figure.axes[0]
    hidden, solid = [c for c in axes.collections if isinstance(c, LineCollection) and c.get_array() is not None]
    uv, step = positions(t)[..., :2], STEP[2]
    expected = [np.stack([uv[p, s], uv[p, s + 1]]) for p, last in ((0, 9), (1, 19), (2, 32)) for s in range(last)]
    assert np.allclose(solid.get_segments(), expected)
    assert np.allclose(solid.get_array(), [step * (s + 1) for last in (9, 19, 32) for s in range(last)])
    assert np.allclose(hidden.get_segments(), [np.stack([uv[0, s], uv[0, s + 1]]) for s in range(9, 32)])
    assert solid.get_linestyles() != hidden.get_linestyles()
    still = axes.collections[0].get_offsets()
    assert len(still) == 397
    depth = next(a for a in figure.axes if a.get_title(loc="left").startswith("depth")).images[0].get_array()
    assert depth.shape == (20, 20)
    assert "pick up the bowl" in figure.texts[1].get_text()


def test_pictures_are_written_for_odd_samples_too(tmp_path):
    nothing = np.zeros((400, 33), bool)
    blind = known_triplet(flow=SceneFlow(known_triplet().flow.uvz, nothing, nothing), instructions=("$x_{", "\x1b[2J"))
    few = make_triplet(seed=3, grid=5, steps=4, wrist=False, moving_camera=True)
    odd = dataclasses.replace(
        few,
        instructions=(),
        flow=SceneFlow(few.flow.uvz[:24], few.flow.visible[:24], few.flow.valid[:24]),
        point_flags=few.point_flags[:24],
    )
    for triplets in ([blind], [odd], [blind, odd], [known_triplet()] * 7):
        figure = draw_sample(triplets[0]) if len(triplets) == 1 else draw_sheet(triplets)
        figure.canvas.draw()
    folder = write_set(tmp_path / "set", several(3))
    for suffix in ("png", "svg"):
        inspect(folder, picture=tmp_path / f"sheet.{suffix}", say=lambda text: None, shown=2)
        assert (tmp_path / f"sheet.{suffix}").stat().st_size > 10_000
    samples = [Found(0, Path("x.tar"), t) for t in (blind, odd)]
    html = page(Contents(samples=samples, worst=samples), None)
    assert "(no instruction)" in html


def test_the_page_plays_the_flow_that_is_in_the_sample():
    t = known_triplet(moving=3)
    t.flow.visible[0, 10:] = False
    t.flow.valid[1, 20:] = t.flow.visible[1, 20:] = False
    t.flow.valid[5, 0] = False
    data = flow_data(t, measure(t), 0.05)
    moved = np.frombuffer(base64.b64decode(data["moved"]), "<i2").reshape(3, 33, 3) * [0.04, 0.04, 1e-4]
    state = np.frombuffer(base64.b64decode(data["state"]), np.uint8).reshape(3, 33)
    assert np.allclose(moved[[0, 2]], np.arange(33)[:, None] * STEP, atol=1e-9)
    assert np.array_equal(state == 2, t.flow.visible[:3])
    assert np.array_equal(state > 0, t.flow.valid[:3])
    assert np.allclose(data["start"], keypoint_grid(*SIZE)[:3].ravel(), atol=0.005)
    assert len(data["still"]) == 2 * 396


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.inside = False
        self.tags: list[tuple[str, dict]] = []
        self.blocks: list[tuple[str, dict, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.blocks.append((tag, dict(attrs), ""))
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            tag, attributes, text = self.blocks[-1]
            self.blocks[-1] = (tag, attributes, text + data)


EVIL = "</script></title><script>alert(1)</script>'\"><img src=http://x.org/y onerror=alert(2)>&amp;{{7*7}}\x1b]0;x\x07"


def test_text_in_data_cannot_become_markup(tmp_path):
    t = known_triplet(moving=5)
    evil = dataclasses.replace(
        t,
        instructions=(EVIL, EVIL + "2"),
        source=dataclasses.replace(t.source, file=EVIL, episode=EVIL, camera=EVIL),
        depth_source=EVIL,
        flow_source=EVIL,
        state_names=tuple(EVIL + n for n in t.state_names),
        action_convention=ActionConvention(EVIL, tuple(EVIL + str(i) for i in range(3)), EVIL),
        camera=dataclasses.replace(t.camera, intrinsics_source=EVIL, pose_source=EVIL),
    )
    plain = write_set(tmp_path / "plain", [t])
    folder = write_set(tmp_path / "evil", [evil], name=EVIL, licence=EVIL, version=EVIL, credit=EVIL)
    pages, texts = {}, []
    for name, path in (("plain", plain), ("evil", folder)):
        for sample in (None, "0"):
            file = tmp_path / f"{name}{sample}.html"
            inspect(path, sample=sample, html=file, picture=tmp_path / "p.png", say=texts.append)
            pages[name, sample] = _Page(file.read_text())
    for sample in (None, "0"):
        safe, found = pages["plain", sample], pages["evil", sample]
        assert [t for t, _ in found.tags if t not in ("li",)] == [t for t, _ in safe.tags if t not in ("li",)]
        for _, attributes in found.tags:
            assert not any(name.startswith("on") or name == "style" for name in attributes)
            assert attributes.get("src", "data:image/").startswith("data:image/")
            assert attributes.get("href", "#a").startswith("#")
    assert not any("\x1b" in text or "\x07" in text for text in texts)


def test_the_page_admits_only_its_own_script_and_style(tmp_path):
    inspect(write_set(tmp_path, several(2)), html=tmp_path / "page.html", say=lambda text: None)
    text = (tmp_path / "page.html").read_text()
    found = _Page(text)
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attributes, content in found.blocks:
        if attributes.get("type") == "application/json":
            json.loads(content)
            continue
        if attributes.get("type") == "text/plain":  # packed, to be run when it is first wanted
            tag, content = "script", gzip.decompress(base64.b64decode(content)).decode()
            assert "Plotly" in content
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in next(p for p in policy.split("; ") if p.startswith(f"{tag}-src"))
    assert not re.search(r"https?://", text)


def test_flow_of_a_sheet_shares_one_scale():
    figure = draw_sheet([known_triplet(moving=5), known_triplet(moving=400)])
    norms = {
        (c.norm.vmin, c.norm.vmax)
        for axes in figure.axes
        for c in axes.collections
        if isinstance(c, LineCollection) and c.get_array() is not None
    }
    assert norms == {(-0.04, 0.04)}


def inside(figure) -> bool:
    """Whether every text lies within the figure."""
    figure.canvas.draw()
    wide, high = figure.canvas.get_width_height()
    texts = [*figure.texts, *(t for axes in figure.axes for t in (axes.title, axes._left_title) if t.get_text())]
    boxes = [t.get_window_extent() for t in texts]
    return all(b.x0 >= 0 and b.x1 <= wide and b.y0 >= 0 and b.y1 <= high for b in boxes)


def test_panels_name_file_episode_and_frame_and_are_not_cut():
    long = "put the red mug that stands behind the kettle onto the second shelf, then close the door of the cupboard"
    triplets = []
    for name in ("cup.mp4", "a_video_whose_name_is_much_longer_than_any_panel_could_be_wide_in_one_line.mp4"):
        t = known_triplet(instructions=(long,))
        triplets.append(
            dataclasses.replace(t, source=dataclasses.replace(t.source, file=f"x/{name}", episode="clip_0"))
        )
    figure = draw_sheet(triplets)
    said = " ".join(text.get_text() for text in figure.texts)
    assert "cup.mp4, clip_0, frame" in said and said.count(long) == 2
    assert "a_video_whose" in said and inside(figure)


def test_points_and_flow_are_rimmed_so_that_they_show_on_grey():
    axes = draw_sample(known_triplet(moving=3)).figure.axes[0]
    dark = np.array([16, 20, 26]) / 255
    assert np.allclose(axes.collections[0].get_edgecolors()[0, :3], dark)
    lines = [c for c in axes.collections if isinstance(c, LineCollection)]
    for under, over in ((lines[0], lines[1]), (lines[2], lines[3])):
        assert under.get_array() is None and np.allclose(under.get_colors()[0], [*dark, 0.8])
        assert under.get_linewidths()[0] > over.get_linewidths()[0] and under.get_zorder() < over.get_zorder()


def test_what_was_left_out_cannot_become_markup_either(tmp_path):
    folder = write_set(tmp_path / "set", several(1))
    found = {}
    for name, words in (("plain", "x"), ("evil", EVIL)):
        window = {"digest": words, "dataset": words, "source": words, "episode": words}
        rejected = {**window, "rejected": {words: 2, "jumps": 1}, "rejected_windows": [[words, 3, "jumps", 0.5]]}
        lines = [rejected, {"quarantined": {"code": words, "message": words}}]
        (tmp_path / "episodes.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        rejections = read_rejections(tmp_path)
        pictures = [RejectedPicture(rejections.examples["jumps"][0], (b"\xff\xd8", b"\xff\xd8"))]
        summary = summarise(open_collection(folder))
        contents = Contents(summaries=[summary], rejections=[rejections], pictures=pictures, notes=[words])
        found[name] = page(contents, None)
    assert [t for t, _ in _Page(found["evil"]).tags] == [t for t, _ in _Page(found["plain"]).tags]
    assert "alert(1)" in found["evil"] and "<script>alert" not in found["evil"]

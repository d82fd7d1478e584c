"""What lies below a folder: links are followed once, what cannot be opened is said, versions are asked about."""

import os
import shutil

import pytest
from fixtures.libero import Demo, write_file

from pipeline.errors import SeveralForms, UnreadableSource
from pipeline.formats.discovery import LeftOutSource, find_forms
from pipeline.formats.folder_tree import FolderTree
from pipeline.readers.libero import LiberoReader
from schemas.episode import EpisodeRef

ONE = [Demo(frames=2)]
READER = LiberoReader()


def visited(root):
    tree = FolderTree(root, lambda name: False)
    found = [here.path.relative_to(root).as_posix() for here in tree.visit()]
    return found, [(fault.source, fault.code) for fault in tree.faults]


def listed(root):
    refs = list(READER.list_episodes(root))
    return [ref.source if isinstance(ref, EpisodeRef) else ref.code for ref in refs]


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)


def test_folders_come_in_the_order_of_their_numbers_and_hidden_ones_not_at_all(tmp_path):
    folders(tmp_path, "a10", "a9/x", ".hidden/y")
    assert visited(tmp_path) == ([".", "a9", "a9/x", "a10"], [])


def test_a_link_to_a_folder_is_followed(tmp_path):
    write_file(tmp_path / "elsewhere" / "x_demo.hdf5", ONE)
    write_file(tmp_path / "data" / "real" / "y_demo.hdf5", ONE)
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    assert listed(tmp_path / "data") == ["link/x_demo.hdf5", "real/y_demo.hdf5"]


def test_a_link_into_a_hidden_folder_is_followed(tmp_path):
    write_file(tmp_path / ".store" / "a" / "x_demo.hdf5", ONE)
    (tmp_path / "a").symlink_to(".store/a")
    assert listed(tmp_path) == ["a/x_demo.hdf5"]


def test_no_folder_is_listed_twice_and_no_loop_is_endless(tmp_path):
    folders(tmp_path, "data/real/in", "elsewhere/in")
    data = tmp_path / "data"
    (data / "same").symlink_to("real")
    (data / "real" / "in" / "loop").symlink_to(data)
    (data / "far").symlink_to(tmp_path / "elsewhere")
    (data / "far_again").symlink_to(tmp_path / "elsewhere")
    (data / "within_far").symlink_to(tmp_path / "elsewhere" / "in")
    (tmp_path / "elsewhere" / "in" / "loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "in" / "back").symlink_to(data)
    assert visited(data) == ([".", "far", "far/in", "real", "real/in"], [])


def test_a_link_to_what_holds_the_dataset_is_not_followed_and_said(tmp_path):
    folders(tmp_path, "data", "other")
    (tmp_path / "data" / "up").symlink_to(tmp_path)
    assert visited(tmp_path / "data") == (["."], [("up", "link_loop")])


def test_links_that_lead_nowhere_are_said_and_the_rest_is_listed(tmp_path):
    write_file(tmp_path / "y_demo.hdf5", ONE)
    (tmp_path / "gone").symlink_to(tmp_path / "unmounted" / "1.0.0")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "x_demo.hdf5").symlink_to("absent.hdf5")
    assert listed(tmp_path) == ["broken_link", "broken_link", "unreadable_file", "y_demo.hdf5"]
    said = {str(fault) for fault in READER.list_episodes(tmp_path) if isinstance(fault, UnreadableSource)}
    assert any(words.startswith("gone is a link to") and "unmounted/1.0.0" in words for words in said)


def closed_by(monkeypatch, name):
    """``os.scandir`` as it behaves for who may not read a folder; root may read everything."""
    real = os.scandir

    def scandir(path="."):
        if os.path.basename(os.fspath(path)) == name:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_may_not_be_read_is_named_and_the_rest_is_listed(tmp_path, monkeypatch):
    write_file(tmp_path / "closed" / "x_demo.hdf5", ONE)
    write_file(tmp_path / "open" / "y_demo.hdf5", ONE)
    closed_by(monkeypatch, "closed")
    fault, ref = READER.list_episodes(tmp_path)
    assert isinstance(ref, EpisodeRef) and ref.source == "open/y_demo.hdf5"
    assert isinstance(fault, UnreadableSource) and fault.code == "unreadable_folder"
    assert str(fault).startswith("closed cannot be opened: Permission denied")


def test_where_nothing_else_is_found_the_closed_folder_is_named(tmp_path, monkeypatch):
    write_file(tmp_path / "closed" / "x_demo.hdf5", ONE)
    closed_by(monkeypatch, "closed")
    with pytest.raises(FileNotFoundError, match=r"holds no .*closed cannot be opened: Permission denied"):
        listed(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_the_right_to_read_is_named(tmp_path):
    write_file(tmp_path / "open" / "y_demo.hdf5", ONE)
    write_file(tmp_path / "closed" / "x_demo.hdf5", ONE)
    (tmp_path / "closed").chmod(0)
    try:
        assert listed(tmp_path) == ["unreadable_folder", "open/y_demo.hdf5"]
    finally:
        (tmp_path / "closed").chmod(0o755)


@pytest.mark.parametrize("names", [("1.0.0", "1.1.0"), ("v2.1", "v3.0")])
def test_versions_beside_each_other_are_asked_about(tmp_path, names):
    for name in names:
        write_file(tmp_path / "set" / name / "x_demo.hdf5", ONE)
    with pytest.raises(SeveralForms, match=rf"several versions, {names[0]} and {names[1]}, which may be the same"):
        listed(tmp_path)
    assert listed(tmp_path / "set" / names[0]) == ["x_demo.hdf5"]


def test_versions_of_different_sets_are_no_choice(tmp_path):
    for name in ("libero_spatial/1.0.0", "libero_object/1.0.0", "libero_10/1.1.0"):
        write_file(tmp_path / name / "x_demo.hdf5", ONE)
    assert len(listed(tmp_path)) == 3


@pytest.mark.parametrize("name", ["incomplete.5XYZ_1.0.0", "1.0.0.incompleteA1B2C3"])
def test_an_unfinished_preparation_is_left_out_with_a_word(tmp_path, name):
    folders(tmp_path, "set/1.0.0", f"set/{name}", f"set/{name}_of_mine.d")
    for folder in ("1.0.0", name):
        (tmp_path / "set" / folder / "features.json").write_text("{}")
    assert list(find_forms(tmp_path)) == [("rlds", tmp_path / "set" / "1.0.0")]
    faults = [f for f in READER.list_episodes(tmp_path) if isinstance(f, LeftOutSource)]
    assert [f.source for f in faults] == [f"set/{name}"] and "is left out: it is an unfinished" in str(faults[0])
    shutil.rmtree(tmp_path / "set" / "1.0.0")
    with pytest.raises(FileNotFoundError, match="is left out: it is an unfinished"):
        listed(tmp_path)
    assert [form for form, _ in find_forms(tmp_path / "set" / name)] == ["rlds"], "it can be read when it is named"

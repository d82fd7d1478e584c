"""Git LFS pointers: a few lines of text that stand in place of a file which was not downloaded."""

from pathlib import Path

START, LARGEST = b"version https://git-lfs.github.com/spec/", 1024
CODE = "lfs_pointer"


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a pointer; False where it cannot be read: its reader then says why."""
    try:
        if not len(START) < path.stat().st_size <= LARGEST:
            return False
        with path.open("rb") as file:
            return file.read(len(START)) == START
    except OSError:
        return False


def lfs_words(name: str) -> str:
    """What to say of a pointer.

    Args:
        name: the file's, as messages call it.
    """
    return f"{name} is a Git LFS pointer, not the file itself: fetch the file with git lfs pull in its repository"

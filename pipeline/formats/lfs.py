"""Git LFS pointers: a few lines of text in place of a file that was not downloaded."""

from pathlib import Path

START, LARGEST = b"version https://git-lfs.github.com/spec/", 1024
CODE = "lfs_pointer"


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a pointer; False if it cannot be read, which the reader of the file reports."""
    try:
        if not len(START) < path.stat().st_size <= LARGEST:
            return False
        with path.open("rb") as file:
            return file.read(len(START)) == START
    except OSError:
        return False


def lfs_words(name: str) -> str:
    """The message for a pointer.

    Args:
        name: the file's name in messages.
    """
    return f"{name} is a Git LFS pointer, not the file itself: fetch the file with git lfs pull in its repository"

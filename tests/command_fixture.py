"""Commands as a person types them: in a process of their own, in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "error::ResourceWarning",
}


def start_lamp_data(*words, folder: Path, **options) -> subprocess.Popen:
    """Start ``lamp-data``."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.lamp_data", *map(str, words)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def lamp_data(*words, folder: Path, **options) -> subprocess.CompletedProcess[str]:
    """Run ``lamp-data`` to its end; there is never a traceback in what it says."""
    process = start_lamp_data(*words, folder=folder, **options)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def said(ran: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that a failed command says: the last line of standard error, progress bars aside."""
    lines = [line for line in ran.stderr.replace("\r", "\n").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("episodes:", "shards:"))]
    assert len(lines) == 1, ran.stderr
    return lines[0]

"""Runs the sections of ``benchmarks/gpu.sh``, each in a process of its own with its own budget of time.

A section that fails, runs out of memory or out of time loses no other's figures, nor its own earlier ones: figures are
written down as they are measured.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import at_least_one, describe

BUDGETS = {"stage1": 95, "stage2": 105, "acting": 130, "precision": 45, "depth": 30, "cotracker": 40}
"""Seconds of each section, in the order in which they run: what matters most comes first."""
SECONDS = 520
"""Of everything together, with what ``gpu.sh`` installs."""
DRY = 6
"""A dry run may take so many times longer: compiling is slow on a CPU that does other work."""


def run_section(name: str, folder: Path, seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """Run one section and collect its figures, also where it did not come to its end."""
    lines, log = folder / f"{name}.jsonl", folder / f"{name}.log"
    lines.unlink(missing_ok=True)
    script = Path(__file__).with_name("gpu_sections.py")
    words = [sys.executable, str(script), name, str(lines), *(["--dry"] if args.dry else [])]
    words += ["--cotracker", str(args.cotracker)] if args.cotracker else []
    words += ["--seconds", str(int(seconds))]
    began, why = time.perf_counter(), None
    with open(log, "w") as said:
        try:
            code = subprocess.run(words, stdout=said, stderr=subprocess.STDOUT, timeout=seconds, check=False).returncode
            why = None if code == 0 else f"ended with code {code}: {_last_line(log)}"
        except subprocess.TimeoutExpired:
            why = f"stopped after its {seconds:.0f} s"
    figures = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    return {"figures": figures, "seconds": round(time.perf_counter() - began, 1), "failed": why}


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def table(results: dict[str, Any]) -> str:
    """Everything as text."""
    out = [results["machine"]]
    for name, section in results["sections"].items():
        out.append(f"\n{name} ({section['seconds']:.0f} s)")
        for figure in section["figures"]:
            out.append("  " + ", ".join(f"{key} {_said(value)}" for key, value in figure.items()))
        if section["failed"]:
            out.append(f"  FAILED: {section['failed']}")
    return "\n".join(out) + "\n"


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Run the sections; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="on the CPU, at a small size")
    parser.add_argument("--only", nargs="+", choices=tuple(BUDGETS), default=tuple(BUDGETS))
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    parser.add_argument("--seconds", type=at_least_one, help=f"of everything together [default: {SECONDS}]")
    parser.add_argument("--cotracker", type=Path, help="clone of CoTracker3's code; else torch.hub fetches it")
    parser.add_argument("--began", type=float, default=time.time(), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    times = DRY if args.dry else 1
    end = args.began + (args.seconds or SECONDS * times)
    results: dict[str, Any] = {"machine": describe(), "dry": args.dry, "sections": {}}
    for name in (name for name in BUDGETS if name in args.only):
        left = end - time.time()
        if left < 5:
            results["sections"][name] = {"figures": [], "seconds": 0.0, "failed": "no time was left for it"}
        else:
            results["sections"][name] = run_section(name, args.out, min(BUDGETS[name] * times, left), args)
        (args.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        (args.out / "gpu.txt").write_text(table(results))
    print(table(results), end="")
    print(
        f"\n{time.time() - args.began:.0f} s in all; {args.out}/gpu.json, {args.out}/gpu.txt and a log of each section"
    )
    return 1 if any(section["failed"] for section in results["sections"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())

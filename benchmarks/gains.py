"""What each part of the wgmma template gains, from the trials of benchmarks/gemm.py.

    python benchmarks/gains.py FOLDER [--pattern REGEX]

FOLDER is what gemm.py was given as --work. For each problem: the best time of any configuration, and how
many times as long the best one takes without a part, among what the search has measured ("–" where it
measured none). A search spends its time on good configurations, so these are bounds from above of what a
part gains, near to it where many were measured; the count is given.
"""

import argparse
import json
import re
import sqlite3
from pathlib import Path

WITHOUT = {
    "multicast": lambda c: c["CLUSTER_M"] * c["CLUSTER_N"] == 1,
    "k over a cluster": lambda c: c["CLUSTER_K"] == 1,
    "k over memory": lambda c: c["SPLIT_K"] == 1,
    "pingpong": lambda c: c["SCHEDULE"] != "pingpong",
    "cooperative": lambda c: c["SCHEDULE"] != "cooperative",
    "2, 3 consumers": lambda c: c["CONSUMERS"] == 1,
    "in flight": lambda c: c["IN_FLIGHT"] == 0,
    "over 4 stages": lambda c: c["STAGES"] <= 4,
    "bands": lambda c: c["RASTER"] == 1,
    "tiles but 128×128": lambda c: c["BM"] == 128 and c["BN"] == 128,
}


def trials_of(database):
    """(seconds, template, configuration) of what worked."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT median, kernel_template, configuration FROM trials "
            "WHERE status = 'ok' AND median IS NOT NULL"
        )
        return [(seconds, name, json.loads(text)) for seconds, name, text in rows]


def row_of(trials):
    wgmma = [(seconds, configuration) for seconds, name, configuration in trials if name == "wgmma"]
    if not wgmma:
        return None
    best = min(seconds for seconds, _ in wgmma)
    cells = [f"{best * 1e6:.1f}"]
    for allowed in WITHOUT.values():
        times = [seconds for seconds, configuration in wgmma if allowed(configuration)]
        cells.append(f"{min(times) / best:.2f} ({len(times)})" if times else "–")
    others = sorted({name for _, name, _ in trials} - {"wgmma"})
    cells.append(
        ", ".join(f"{name} {min(s for s, n, _ in trials if n == name) * 1e6:.1f}" for name in others)
    )
    return cells


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="", help="of problems' names")
    arguments = parser.parse_args()
    print("| problem | wgmma, µs | " + " | ".join(WITHOUT) + " | other templates, µs |")
    print("|---" * (len(WITHOUT) + 3) + "|")
    for database in sorted(arguments.folder.glob("gemm-*.db")):
        name = database.stem.removeprefix("gemm-")
        if re.search(arguments.pattern, name) and (cells := row_of(trials_of(database))):
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

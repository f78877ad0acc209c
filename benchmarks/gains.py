"""What each part of an operator's wgmma template gains, from the trials of its benchmark.

    python benchmarks/gains.py FOLDER [--operator attention] [--pattern REGEX]

FOLDER is what gemm.py or attention.py was given as --work. For each problem: the best time of any
configuration, and the ratio of the best time without a part to it, among what the search
has measured ("–" where it measured none). A search spends its time on good configurations, so these
are bounds from above of what a part gains, near to it where many were measured; the count is given.
"""

import argparse
import json
import re
import sqlite3
from pathlib import Path

# What a configuration without a part looks like.
WITHOUT_OF_GEMM = {
    "multicast": lambda c: c["CLUSTER_M"] * c["CLUSTER_N"] == 1,
    "k over a cluster": lambda c: c["CLUSTER_K"] == 1,
    "k over memory": lambda c: c["SPLIT_K"] == 1,
    "pingpong": lambda c: c["SCHEDULE"] != "pingpong",
    "cooperative": lambda c: c["SCHEDULE"] != "cooperative",
    "stream": lambda c: c["SCHEDULE"] != "stream",
    "swapped operands": lambda c: not c.get("SWAP", False),
    "2, 3 consumers": lambda c: c["CONSUMERS"] == 1,
    "in flight": lambda c: c["IN_FLIGHT"] == 0,
    "over 4 stages": lambda c: c["STAGES"] <= 4,
    "bands": lambda c: c["RASTER"] == 1,
    "tiles but 128×128": lambda c: c["BM"] == 128 and c["BN"] == 128,
}
WITHOUT_OF_ATTENTION = {
    "OVERLAP": lambda c: not c["OVERLAP"],
    "PINGPONG": lambda c: not c["PINGPONG"],
    "clusters": lambda c: c["CLUSTER"] == 1,
    "probabilities in shared memory": lambda c: c["PROBABILITIES"] == "registers",
    "FMA_EXP2": lambda c: c["FMA_EXP2"] == 0,
    "persistent": lambda c: c["SCHEDULE"] != "persistent",
    "dynamic": lambda c: c["SCHEDULE"] != "dynamic",
    "single": lambda c: c["SCHEDULE"] != "single",
    "QUERY_STAGES": lambda c: c["QUERY_STAGES"] == 1,
    "SECTION": lambda c: c["SECTION"] == 1,
    "PACK": lambda c: not c["PACK"],
    "SPLIT": lambda c: c["SPLIT"] == 1,
    "2, 3 consumers": lambda c: c["CONSUMERS"] == 1,
    "3 consumers": lambda c: c["CONSUMERS"] < 3,
    "over 2 stages": lambda c: c["STAGES"] <= 2,
    "BN but 128": lambda c: c["BN"] == 128,
}
WITHOUT = {"gemm": WITHOUT_OF_GEMM, "attention": WITHOUT_OF_ATTENTION}


def trials_of(database):
    """(seconds, template, configuration) of what worked."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT median, kernel_template, configuration FROM trials "
            "WHERE status = 'ok' AND median IS NOT NULL"
        )
        return [(seconds, name, json.loads(text)) for seconds, name, text in rows]


def row_of(trials, without):
    wgmma = [(seconds, configuration) for seconds, name, configuration in trials if name == "wgmma"]
    if not wgmma:
        return None
    best = min(seconds for seconds, _ in wgmma)
    cells = [f"{best * 1e6:.1f}"]
    for allowed in without.values():
        times = [seconds for seconds, configuration in wgmma if allowed(configuration)]
        cells.append(f"{min(times) / best:.2f} ({len(times)})" if times else "–")
    others = sorted({name for _, name, _ in trials} - {"wgmma"})
    cells.append(
        ", ".join(
            f"{name} {min(s for s, n, _ in trials if n == name) * 1e6:.1f}" for name in others
        )
    )
    return cells


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--operator", choices=WITHOUT, default="gemm")
    parser.add_argument("--pattern", default="", help="of problems' names")
    arguments = parser.parse_args()
    without = WITHOUT[arguments.operator]
    print("| problem | wgmma, µs | " + " | ".join(without) + " | other templates, µs |")
    print("|---" * (len(without) + 3) + "|")
    for database in sorted(arguments.folder.glob(f"{arguments.operator}-*.db")):
        name = database.stem.removeprefix(f"{arguments.operator}-")
        if re.search(arguments.pattern, name) and (cells := row_of(trials_of(database), without)):
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

"""What it costs that problems of one tuning key share a winner.

    python benchmarks/buckets.py --work FOLDER [--weights 4096x4096] [--output FILE]

The tuning key of a matrix product puts its number of rows m into buckets. For the first and the last m of some
buckets: tunes both exactly, then times, in turns, each m with its own winner and with the other's, which is
what it gets when the other was tuned first.
"""

import argparse
import json
from pathlib import Path

import cudadent
from common import State, provenance, timed
from gemm import Case, operands, tune

# Up to 128 rows powers of two, above eight an octave: of those, the first and the last of some octaves.
BUCKETS = (
    (9, 16),
    (17, 32),
    (33, 64),
    (65, 128),
    *(
        ends
        for octave in (128, 256, 512, 1024, 2048)
        for ends in ((octave + 1, octave * 9 // 8), (octave * 15 // 8 + 1, octave * 2))
    ),
)


def time_with_winners_of(case, databases):
    a, b, _, _, c = operands(case)
    runtimes = [
        cudadent.Runtime("cuda", cache=database, on_miss="fail", shipped_winners=False)
        for database in databases
    ]
    try:
        operators = [runtime.op("gemm", **case.options) for runtime in runtimes]
        calls = [lambda op=op: op(a, b, out=c) for op in operators]
        return timed(calls, max(40, min(400, int(4e12 / case.flops))))
    finally:
        for runtime in runtimes:
            runtime.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="keeps winners and what is done")
    parser.add_argument("--weights", default="4096x4096", help="n×k")
    parser.add_argument("--budget", default="10s", help="of each tuning run")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    arguments = parser.parse_args()
    state = State(arguments.work)
    n, k = (int(extent) for extent in arguments.weights.split("x"))
    rows = []
    for ends in BUCKETS:
        cases = [Case(m, n, k) for m in ends]
        databases = [state.database("bucket", case.name) for case in cases]
        for case, database in zip(cases, databases):
            if not state.done("tune", case.name):
                state.put("tune", case.name, tune(case, arguments, database))
        for index, case in enumerate(cases):
            own, others = time_with_winners_of(case, [databases[index], databases[1 - index]])
            rows.append(
                {
                    "m": case.m,
                    "tuned_for": cases[1 - index].m,
                    "own_microseconds": own * 1e6,
                    "others_microseconds": others * 1e6,
                    "cost": others / own,
                }
            )
            print(
                f"m={case.m:5}: own winner {own * 1e6:7.1f} µs, that of m={cases[1 - index].m:5} "
                f"{others * 1e6:7.1f} µs, {others / own:.3f}",
                flush=True,
            )
    print(f"worst {max(row['cost'] for row in rows):.3f}")
    if arguments.output:
        results = {"provenance": provenance(), "weights": arguments.weights, "rows": rows}
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

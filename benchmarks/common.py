"""What the benchmarks share: timing in turns, what is done so far, and where figures come from."""

import argparse
import contextlib
import datetime
import importlib
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

TEMPLATES = Path(__file__).resolve().parent.parent / "kernel_templates"

# Tuning starts from nothing, and what is launched is what was tuned. A process may have said otherwise.
os.environ.setdefault("CUDADENT_SHIPPED", "none")


class State:
    """What is done so far, in a file that is whole at every moment: part, then case, to a result."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "state.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.parts = json.loads(self.file.read_text()) if self.file.exists() else {}

    def done(self, part, case):
        return self.parts.get(part, {}).get(case)

    def put(self, part, case, result):
        self.parts.setdefault(part, {})[case] = result
        draft = self.file.with_suffix(".part")
        draft.write_text(json.dumps(self.parts, indent=1) + "\n")
        draft.replace(self.file)

    def database(self, name, case):
        return self.folder / f"{name}-{case}.db"


def timed(contenders, rounds):
    """Median seconds of each callable, in turns, each behind an L2 flush on a busy GPU.

    The flush reads at least twice the cache's size, and so much that the device is busy for longer than
    the host takes to launch: events around a run measure the kernels alone. A flush that writes would
    leave the cache full of data that has yet to go to memory, and the run would pay for that.
    """
    import torch

    flush_bytes = max(512 << 20, 2 * torch.cuda.get_device_properties(0).L2_cache_size)
    flush = torch.zeros(flush_bytes // 4, dtype=torch.int32, device="cuda")
    flushed = torch.empty((), dtype=torch.int32, device="cuda")
    for call in contenders:
        for _ in range(3):
            call()
    events = []
    for _ in range(rounds):
        for index, call in enumerate(contenders):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.amax(flush, dim=0, out=flushed)
            start.record()
            call()
            end.record()
            events.append((index, start, end))
    torch.cuda.synchronize()
    samples = [[] for _ in contenders]
    for index, start, end in events:
        samples[index].append(start.elapsed_time(end) * 1e-3)
    return [statistics.median(times) for times in samples]


def copy_bandwidth():
    """Bytes a second that a copy on the device reads and writes."""
    import torch

    source = torch.empty(1 << 30, dtype=torch.int8, device="cuda").zero_()
    target = torch.empty_like(source)
    (seconds,) = timed([lambda: target.copy_(source)], 20)
    return 2 * source.numel() / seconds


def smallest_launch():
    """Seconds that are measured of a kernel of one thread that does nothing: the floor of any."""
    import torch

    (seconds,) = timed([lambda: torch.cuda._sleep(0)], 100)
    return seconds


def measured_floors():
    """What no contender can beat, measured here and said."""
    floors = {"copy_bandwidth": copy_bandwidth(), "smallest_launch": smallest_launch()}
    print(
        f"device copy {floors['copy_bandwidth'] / 1e12:.2f} TB/s, "
        f"the smallest launch {floors['smallest_launch'] * 1e6:.2f} µs"
    )
    return floors


def tuned(operator, values, budget, database):
    """Tunes one problem into `database`: the winner, and what finding it took."""
    import cudadent

    start = time.perf_counter()
    with cudadent.Runtime("cuda", cache=database) as runtime:
        result = runtime.tune(operator, budget=budget, **values)
    return {
        "seconds": time.perf_counter() - start,
        "template": result.winner.template,
        "configuration": result.winner.configuration,
        "median": result.winner.seconds,
        "tried": len(result.trials),
        "candidates": result.candidates,
        "stopped_by": result.stopped_by,
    }


def workspace_bytes(operator, template, configuration, values):
    """What a configuration takes of the device's memory beside its tensors, by its manifest.

    `values` are the problem's dimensions, data types and options, and True for each optional tensor that it
    has. Expressions are Python.
    """
    text = (TEMPLATES / operator / f"{template}.json").read_text()
    manifest = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))

    class Names(dict):
        def __missing__(self, name):
            if name.startswith("has_"):
                return False
            raise KeyError(name)

    names = Names(
        {
            "ceil_div": lambda a, b: -(-a // b),
            "round_up": lambda a, b: -(-a // b) * b,
            "pow2_ceil": lambda a: 1 << max(0, a - 1).bit_length(),
            **values,
            **{f"has_{name}": True for name, value in values.items() if value is True},
            **configuration,
        }
    )

    def value_of(expression):
        return eval(expression, {}, names) if isinstance(expression, str) else expression

    for name, expression in manifest.get("let", {}).items():
        with contextlib.suppress(NameError):  # what is said of the device is none of a workspace's
            names[name] = value_of(expression)
    spaces = manifest.get("workspace", {}).values()
    return sum(value_of(space["bytes"]) for space in spaces if value_of(space.get("when", True)))


def options_parser(description, groups):
    """The options of a benchmark that works through groups of problems."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="keeps winners and what is done")
    parser.add_argument("--group", action="append", choices=groups, help="may be repeated")
    parser.add_argument("--only", default="", help="problems whose names match this pattern")
    parser.add_argument("--budget", default="15s", help="of each tuning run")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--chart", type=Path, help="draw ratios here: SVG, PNG (needs matplotlib)")
    parser.add_argument("--limit", type=float, default=math.inf, help="begin nothing after seconds")
    return parser


def work_through(arguments, groups, operator, tune, compare):
    """Tunes and compares every problem asked for that is not done yet.

    Yields each group's name with its cases that have been compared, now or earlier, each with what
    `tune` and `compare` returned: (case, tuned, compared). Both are called with a case, the arguments
    and the case's database. Cases with the same `tuned_as`, by default the name, are tuned once.
    """
    state = State(arguments.work)
    start = time.monotonic()

    def names(case):
        return {"tune": getattr(case, "tuned_as", case.name), "compare": case.name}

    for group in arguments.group or groups:
        cases = [case for case in groups[group] if re.search(arguments.only, case.name)]
        for case in cases:
            steps = [
                (part, step)
                for part, step in (("tune", tune), ("compare", compare))
                if not state.done(part, names(case)[part])
            ]
            if steps and time.monotonic() - start > arguments.limit:
                print(f"{case.name}: left for another call", flush=True)
                continue
            database = state.database(operator, names(case)["tune"])
            try:
                for part, step in steps:
                    state.put(part, names(case)[part], step(case, arguments, database))
            except Exception as error:  # the others are worth having all the same
                print(f"{case.name}: {type(error).__name__}: {first_line(error)}", flush=True)
        done = [
            (case, *(state.done(part, name) for part, name in names(case).items()))
            for case in cases
            if state.done("compare", case.name)
        ]
        if done:
            yield group, done


def measured_rows(arguments, groups, operator, tune, compare, row_of, print_group):
    """Works through all that is asked for, prints it, and returns the floors and a group's rows each.

    `row_of` makes a row of a case, what `tune` and `compare` returned, and the copy's bytes a second.
    """
    floors = measured_floors()
    rows_of_groups = {}
    for group, done in work_through(arguments, groups, operator, tune, compare):
        rows = [row_of(*case, floors["copy_bandwidth"]) for case in done]
        rows_of_groups[group] = rows
        print_group(group, rows)
    return floors, rows_of_groups


def write_results(arguments, versions, results, ratios):
    """Writes and draws what the arguments ask for; `ratios` as draw_ratios takes them."""
    if arguments.output:
        results = {"provenance": {**provenance(), **versions}, **results}
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.chart and ratios:
        draw_ratios(ratios, arguments.chart)


def first_line(error):
    """What an exception says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def draw_ratios(ratios_of_groups, file):
    """Bars of how many times as fast as each peer, a group a panel: group → peer → problem → ratio.

    A problem's bars stand in the order of the title, from above, the first in full colour.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    problems = {  # from the bottom up
        group: list(dict.fromkeys(problem for ratios in peers.values() for problem in ratios))[::-1]
        for group, peers in ratios_of_groups.items()
    }
    heights = [len(names) for names in problems.values()]
    figure, axes = pyplot.subplots(
        len(heights),
        1,
        figsize=(9, 1.2 * len(heights) + 0.26 * sum(heights)),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    for (group, peers), panel in zip(ratios_of_groups.items(), axes[:, 0]):
        names = problems[group]
        thickness = 0.8 / len(peers)
        for index, (peer, ratios) in enumerate(peers.items()):
            middle = 0.4 - (index + 0.5) * thickness
            places = [names.index(problem) + middle for problem in ratios]
            colours = ["#2a7" if ratio >= 1 else "#c55" for ratio in ratios.values()]
            bars = panel.barh(
                places,
                list(ratios.values()),
                thickness,
                color=colours,
                alpha=1 / (1 + index),
                label=peer,
            )
            panel.bar_label(bars, fmt="%.2f", padding=3, fontsize=6 + 4 / len(peers))
        panel.set_yticks(range(len(names)), names)
        panel.axvline(1, color="black", linewidth=0.8)
        largest = max(ratio for ratios in peers.values() for ratio in ratios.values())
        panel.set_xlim(0, max(2, 1.15 * largest))
        panel.set_ylim(-0.6, len(names) - 0.4)
        panel.set_title(f"{group}: times as fast as {', '.join(peers)}", loc="left")
    figure.savefig(file)


def geometric_mean(values):
    return statistics.geometric_mean(values) if values else None


def version_of(package):
    """What a module says of itself; "?" where it says nothing, None where there is none."""
    try:
        return getattr(importlib.import_module(package), "__version__", "?")
    except ImportError:
        return None


def provenance(gpu=True):
    """What produced the figures: versions, machine, date, command."""
    import cudadent

    facts = {
        "cudadent": cudadent.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "date": datetime.date.today().isoformat(),
        # Without the folders of the machine at hand.
        "command": "python "
        + " ".join(Path(word).name if word.startswith("/") else word for word in sys.argv),
    }
    if gpu:
        import torch

        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=False).stdout
        facts.update(
            gpu=torch.cuda.get_device_name(),
            driver=driver.split("\n")[0],
            cuda=torch.version.cuda,
            torch=torch.__version__,
            triton=version_of("triton"),
        )
    return facts

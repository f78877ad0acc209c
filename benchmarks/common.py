"""What the benchmarks share: timing in turns, what is done so far, and where figures come from."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys

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


def geometric_mean(values):
    return statistics.geometric_mean(values) if values else None


def version_of(package):
    try:
        return __import__(package).__version__
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
        "command": "python " + " ".join(sys.argv),
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

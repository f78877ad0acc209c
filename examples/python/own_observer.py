"""An observer of your own: adds figures to each trial. The winner has the fastest slowest run."""

import time

import cudadent


class Tail:
    def before(self, measurement):
        self.began = time.perf_counter()

    def after(self, measurement):
        samples = measurement.trial.samples
        return {
            "slowest_seconds": max(samples),
            "observed_seconds": time.perf_counter() - self.began,
        }


with cudadent.Runtime("host", cache=":memory:") as runtime:
    problem = {"rows": 64, "columns": 256, "dtype": "f32"}
    search = {"observers": [Tail(), "binary"], "objective": "slowest_seconds"}
    result = runtime.tune("rms_norm", problem, budget="12 trials", **search)
worked = [trial for trial in result.trials if trial.status == "ok"]
best = min(worked, key=lambda trial: trial.figures["slowest_seconds"])
assert best.configuration == result.winner.configuration
print(result.winner, best.figures)

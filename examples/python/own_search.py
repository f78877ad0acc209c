"""A search of your own: tries the neighbours of the best so far, else one at random."""

import random

import cudadent


class Climb:
    def begin(self, space, seed):
        self.space, self.random = space, random.Random(seed)
        self.seen, self.best = set(), (float("inf"), None)  # value and candidate

    def ask(self, count):
        near = [] if self.best[1] is None else self.space.neighbours(self.best[1])
        fresh = [candidate for candidate in near if candidate not in self.seen]
        chosen = fresh[:count] or [self.random.randrange(len(self.space))]
        self.seen.update(chosen)
        return chosen

    def tell(self, candidate, value):  # value: None when it failed
        self.seen.add(candidate)
        if value is not None:
            self.best = min(self.best, (value, candidate))


with cudadent.Runtime("host", cache=":memory:") as runtime:
    problem = {"rows": 64, "columns": 256, "dtype": "f32"}
    print(runtime.tune("rms_norm", problem, strategy=Climb(), budget="12 trials"))

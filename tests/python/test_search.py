"""Searches and observers of a user's own: what they see, and what comes of those that misbehave."""

import ast
import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import cudadent

PROBLEM = {"rows": 4, "columns": 32, "dtype": "f32"}


class InOrder:
    """Every candidate, from 0."""

    def begin(self, space, seed):
        self.space, self.next, self.told = space, 0, {}

    def ask(self, count):
        candidates = list(range(self.next, min(self.next + count, len(self.space))))
        self.next += len(candidates)
        return candidates

    def tell(self, candidate, value):
        self.told[candidate] = value


class Constant:
    def __init__(self, **figures):
        self.figures = figures

    def after(self, measurement):
        return self.figures


@pytest.fixture
def runtime(tmp_path):
    with cudadent.Runtime("host", cache=tmp_path / "c.db", on_miss="fail") as opened:
        yield opened


def test_a_search_of_ones_own(runtime):
    search = InOrder()
    result = runtime.tune("rms_norm", PROBLEM, strategy=search, budget="5 trials")
    assert result.winner.seconds > 0
    assert len(search.told) >= 5
    assert all(value is None or value > 0 for value in search.told.values())
    with pytest.raises(cudadent.InvalidArgument, match="run of this CandidateSpace is over"):
        len(search.space)


def test_what_a_search_sees(runtime):
    class Looking(InOrder):
        def begin(self, space, seed):
            super().begin(space, seed)
            self.seed = seed
            self.configuration = space.configuration(1)
            self.found = space.find(space.template(1), self.configuration)
            self.unknown = space.find("nobody", {})
            self.neighbours = space.neighbours(0)
            self.predicted = space.predicted_seconds(0)
            with pytest.raises(cudadent.InvalidArgument, match="not in the space"):
                space.configuration(len(space))

    search = Looking()
    runtime.tune("rms_norm", PROBLEM, strategy=search, budget="1 trials", seed=7)
    assert search.seed == 7
    assert isinstance(search.configuration, dict) and search.found == 1
    assert search.unknown is None
    assert search.neighbours and 0 not in search.neighbours
    assert search.predicted is None or search.predicted > 0


@pytest.mark.parametrize("method", ["begin", "ask", "tell"])
def test_what_a_search_raises_comes_out_and_trials_are_kept(runtime, method):
    search = InOrder()

    def fail(*_):
        raise LookupError(f"no {method}")

    setattr(search, method, fail)
    with pytest.raises(LookupError, match=f"no {method}"):
        runtime.tune("rms_norm", PROBLEM, strategy=search, budget="50 trials")
    result = runtime.tune("rms_norm", PROBLEM, strategy=InOrder(), budget="2 trials")
    kept = sum(trial.from_cache for trial in result.trials)
    assert kept == 0 if method == "begin" else kept >= (method == "tell")


@pytest.mark.parametrize(
    "answer, message",
    [
        (lambda space, count: [len(space)], "not in the space"),
        (lambda space, count: [-1], "candidate -1, which is not in the space"),
        (lambda space, count: [2**70], "not in the space"),
        (lambda space, count: ["0"], "expected a list of candidates"),
        (lambda space, count: [True], "expected a list of candidates"),
        (lambda space, count: 0.5, "expected a list of candidates"),
        (lambda space, count: None, "expected a list of candidates"),
        (lambda space, count: range(count + 1), "at most"),
        (lambda space, count: [0], "repeats itself"),
    ],
)
def test_a_search_that_misbehaves_is_told_how(runtime, answer, message):
    class Odd(InOrder):
        def ask(self, count):
            return answer(self.space, count)

    with pytest.raises(cudadent.InvalidArgument, match=f"strategy Odd: .*{message}"):
        runtime.tune("rms_norm", PROBLEM, strategy=Odd(), budget="20s")


def test_arguments_that_are_no_search_or_observer(runtime):
    def tune(**arguments):
        runtime.tune("rms_norm", PROBLEM, budget="1 trials", **arguments)

    with pytest.raises(cudadent.InvalidArgument, match=r"no method begin\(\).*ask\(count\)"):
        tune(strategy=object())
    with pytest.raises(cudadent.InvalidArgument, match=r"expected an object of it: InOrder\(\)"):
        tune(strategy=InOrder)
    with pytest.raises(cudadent.InvalidArgument, match="unknown search strategy 'nobody'.*auto"):
        tune(strategy="nobody")
    with pytest.raises(cudadent.InvalidArgument, match=r"no method after\(\)"):
        tune(observers=[object()])
    with pytest.raises(cudadent.InvalidArgument, match="unknown observer 'power'.*binary"):
        tune(observers="power")


def test_an_observer_adds_figures_that_stay(runtime):
    class Watching(Constant):
        calls = []

        def before(self, measurement):
            self.calls.append(("before", len(measurement.trial.samples)))

        def during(self, measurement):
            self.calls.append(("during", len(measurement.trial.samples)))

    observer = Watching(watts=np.float32(2.5), count=3)
    search = {"strategy": InOrder(), "observers": [observer, "binary"], "budget": "3 trials"}
    result = runtime.tune("rms_norm", PROBLEM, **search)
    worked = [trial for trial in result.trials if trial.status == "ok"]
    assert worked
    for trial in worked:
        assert trial.figures["watts"] == 2.5 and trial.figures["count"] == 3
        assert trial.figures["binary_bytes"] > 0
    assert observer.calls[0] == ("before", 0)
    assert observer.calls[1][0] == "during" and observer.calls[1][1] > 0
    again = runtime.tune("rms_norm", PROBLEM, strategy=InOrder(), budget="1 trials")
    assert any(trial.from_cache and trial.figures.get("watts") == 2.5 for trial in again.trials)


def test_the_objective_decides(runtime):
    class Index:
        def after(self, measurement):
            self.last = getattr(self, "last", 100) - 1  # the later, the better
            return {"rank": self.last}

    result = runtime.tune(
        "rms_norm", PROBLEM, observers=Index(), objective="rank", budget="4 trials"
    )
    worked = [trial for trial in result.trials if trial.status == "ok"]
    assert result.winner.configuration == worked[-1].configuration
    with pytest.raises(cudadent.InvalidArgument, match="objective 'joules'.*no observer gave"):
        runtime.tune("rms_norm", PROBLEM, objective="joules", budget="1 trials", fresh=True)


@pytest.mark.parametrize("answer", [None, 1.0, {"watts": "many"}, {1: 2.0}, {"watts": None}])
def test_an_observer_that_returns_no_numbers(runtime, answer):
    class Odd:
        def after(self, measurement):
            return answer

    with pytest.raises(cudadent.InvalidArgument, match="observer Odd: .*dictionary of numbers"):
        runtime.tune("rms_norm", PROBLEM, observers=[Odd()], budget="5 trials")


def test_an_observer_whose_number_is_none(runtime):
    with pytest.raises(cudadent.InvalidArgument, match="observer Constant: watts is nan"):
        runtime.tune(
            "rms_norm", PROBLEM, observers=[Constant(watts=float("nan"))], budget="5 trials"
        )


@pytest.mark.parametrize("method", ["before", "during", "after"])
def test_what_an_observer_raises_comes_out_and_the_trial_is_kept(runtime, method):
    observer = Constant(watts=1.0)

    def fail(measurement):
        raise LookupError(f"no {method}")

    setattr(observer, method, fail)
    with pytest.raises(LookupError, match=f"no {method}"):
        runtime.tune("rms_norm", PROBLEM, observers=[observer], budget="50 trials")
    result = runtime.tune("rms_norm", PROBLEM, budget="2 trials")
    assert any(trial.from_cache and trial.status == "ok" for trial in result.trials)


def test_first_calls_search_and_observe_too(tmp_path):
    search, x = InOrder(), np.ones((2, 16), np.float32)
    with cudadent.Runtime(
        "host",
        cache=tmp_path / "c.db",
        budget="2 trials",
        strategy=search,
        observers=[Constant(watts=1.0)],
    ) as runtime:
        runtime.rms_norm(x, x[0])
        assert search.told
        # Another problem: the search begins anew.
        y = np.ones((2, 48), np.float32)
        runtime.rms_norm(y, y[0])
    assert search.told


def test_a_search_in_the_background_that_raises_is_logged(tmp_path, caplog):
    class Failing(InOrder):
        def ask(self, count):
            raise LookupError("nothing to ask")

    x = np.ones((2, 16), np.float32)
    with caplog.at_level(logging.WARNING, logger="cudadent"):
        with cudadent.Runtime(
            "host", cache=tmp_path / "c.db", on_miss="background", strategy=Failing()
        ) as runtime:
            runtime.rms_norm(x, x[0])
            for _ in range(3000):
                if "nothing to ask" in caplog.text:
                    break
                time.sleep(0.02)
            runtime.rms_norm(x, x[0])  # goes on
    assert "in the background failed" in caplog.text
    assert "nothing to ask" in caplog.text


def test_other_threads_go_on_while_a_search_thinks(runtime):
    """A search that waits for another thread of Python's, which could not run if the lock were held."""
    told, answered = threading.Event(), threading.Event()

    class Waiting(InOrder):
        def tell(self, candidate, value):
            super().tell(candidate, value)
            told.set()
            assert answered.wait(60)

    def answer():
        if told.wait(60) and runtime.winner("rms_norm", PROBLEM) is None:
            answered.set()

    thread = threading.Thread(target=answer)
    thread.start()
    runtime.tune("rms_norm", PROBLEM, strategy=Waiting(), budget="1 trials")
    thread.join()
    assert answered.is_set()


def stubs():
    """The names in each class of the stubs, without those of methods' own."""
    tree = ast.parse((Path(cudadent.__file__).parent / "__init__.pyi").read_text(encoding="utf-8"))
    return {
        node.name: {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


RECORDS = ["Budget", "Explanation", "Trial", "TuneProgress", "TuneResult", "Winner"]


@pytest.mark.parametrize("name", [*RECORDS, "CandidateSpace", "Measurement"])
def test_stubs_have_what_records_have(name):
    there = {item for item in vars(getattr(cudadent, name)) if not item.startswith("_")}
    assert {item for item in stubs()[name] if not item.startswith("_")} == there

"""No candidate can lose a run: each way to fail costs one trial, recorded by its name.

On the host device everywhere, and on a GPU where PyTorch sees one.
"""

import json
import os

import pytest

import cudadent


def devices():
    try:
        import torch

        if torch.cuda.is_available():
            return ["host", "cuda"]
    except ImportError:
        pass
    return ["host", pytest.param("cuda", marks=pytest.mark.skip(reason="no CUDA device"))]


OPERATOR = {
    "op": "fate",
    "doc": "y = 2x",
    "tensors": {
        "x": {"shape": ["n"], "dtype": "f32"},
        "y": {"shape": ["n"], "dtype": "f32", "role": "output"},
    },
    "tolerance": {"f32": 1e-6},
}

# Fates that both devices know, and what each is recorded as.
EXPECTED = {
    "good": "ok",
    "slow": "ok",
    "endless": "timeout_once",
    "beside": "fault",  # writes just behind the output
    "far": "fault",  # writes where nothing is mapped
    "misaligned": "fault",
    "nan": "wrong_result",
    "wrong": "wrong_result",
    "broken": "compile_error",
    "greedy": "invalid_resources",
}
HOST_ONLY = {
    "aborts": "fault",
    "exits": "fault",
    "runaway": "timeout_once",  # never done compiling
}

HOST_SOURCE = """
#include <stdlib.h>
#include <unistd.h>

static_assert(FATE != FATE_kind::broken, "this one does not compile");

template <int depth, long way>
struct Tree : Tree<depth - 1, 2 * way>, Tree<depth - 1, 2 * way + 1> {};
template <long way>
struct Tree<0, way> {};


void fate(const Block&, const float* x, float* y, int n) {
  (void)sizeof(Tree<(FATE == FATE_kind::runaway ? 40 : 0), 1>);
  volatile float* out = y;
  if (FATE == FATE_kind::endless)
    for (volatile int i = 0;; i = i + 1) {}
  if (FATE == FATE_kind::aborts) abort();
  if (FATE == FATE_kind::exits) _exit(0);
  if (FATE == FATE_kind::far) out[1L << 40] = 1;
  if (FATE == FATE_kind::misaligned) __builtin_trap();  // what strict hardware does
  for (int repeat = 0; repeat < (FATE == FATE_kind::slow ? 50 : 1); ++repeat)
    for (int i = 0; i < n; ++i) out[i] = (FATE == FATE_kind::wrong ? 3 : 2) * x[i];
  if (FATE == FATE_kind::beside) out[n] = 1;
  if (FATE == FATE_kind::nan) out[n / 2] = __builtin_nanf("");
}
"""

CUDA_SOURCE = """
static_assert(FATE != FATE_kind::broken, "this one does not compile");

extern "C" __global__ void fate(const float* x, float* y, int n) {
  extern __shared__ char scratch[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  volatile float* out = y;
  if (FATE == FATE_kind::endless)
    while (true) out[0] = out[0] + 1;
  if (FATE == FATE_kind::far && i == 0) out[1L << 40] = 1;
  if (FATE == FATE_kind::misaligned && i == 0)
    *(volatile float*)((char*)y + 1) = 1;
  for (int repeat = 0; repeat < (FATE == FATE_kind::slow ? 200 : 1); ++repeat)
    if (i < n) out[i] = (FATE == FATE_kind::wrong ? 3 : 2) * x[i];
  if (FATE == FATE_kind::beside && i == 0) out[n] = 1;
  if (FATE == FATE_kind::nan && i == n / 2) out[i] = nanf("");
}
"""

REFERENCE = """
void fate(const Block&, const float* x, float* y, int n) {
  for (int i = 0; i < n; ++i) y[i] = 2 * x[i];
}
"""

CUDA_REFERENCE = """
extern "C" __global__ void fate(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = 2 * x[i];
}
"""


def write_template(home, name, backend, source, fates=None):
    extension = "cu" if backend == "cuda" else "cpp"
    launch = {"entry": "fate", "grid": ["ceil_div(n, 128)" if backend == "cuda" else 1]}
    if backend == "cuda":
        launch["block"] = [128]
    launch["args"] = ["x", "y", "n"]
    manifest = {"template": name, "backend": backend, "compile_time": [], "launches": [launch]}
    if fates:
        # The sources name some that are not valid here.
        others = [fate for fate in {**EXPECTED, **HOST_ONLY} if fate not in fates]
        manifest["parameters"] = {"FATE": fates + others}
        manifest["constraints"] = [f"FATE in ({', '.join(map(repr, fates))},)"]
        launch["shared_memory"] = "device.max_shared_memory + 64 if FATE == 'greedy' else 0"
    (home / f"{name}.json").write_text(json.dumps(manifest))
    (home / f"{name}.{extension}").write_text(source)


@pytest.fixture
def folder(tmp_path):
    def make(fates):
        home = tmp_path / "templates" / "fate"
        home.mkdir(parents=True)
        (home / "op.json").write_text(json.dumps(OPERATOR))
        cuda = [fate for fate in fates if fate not in HOST_ONLY]
        write_template(home, "host", "host", HOST_SOURCE, fates)
        write_template(home, "host_reference", "host", REFERENCE)
        write_template(home, "cuda", "cuda", CUDA_SOURCE, cuda)
        write_template(home, "reference", "cuda", CUDA_REFERENCE)
        return home.parent

    return make


def runtime(folder, device, tmp_path, **options):
    return cudadent.Runtime(
        device, cache=tmp_path / "cudadent.db", template_paths=folder, isolation="worker", **options
    )


def statuses(result):
    return {trial.configuration["FATE"]: trial.status for trial in result.trials}


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("first", ["good", "endless"])
def test_every_fate_costs_its_own_trial(folder, tmp_path, device, first):
    expected = dict(EXPECTED, **(HOST_ONLY if device == "host" else {}))
    if first != "good":
        expected.pop("runaway", None)  # once is enough: it takes as long as a compile may
    # The first is the default configuration, which is measured before all others.
    order = [first] + [fate for fate in expected if fate != first]
    with runtime(folder(order), device, tmp_path) as tuner:
        result = tuner.tune("fate", n=1000, compile_timeout=15, run_timeout=3)
    assert statuses(result) == expected
    assert result.winner.configuration == {"FATE": "good"}
    assert result.isolated
    assert result.worker_restarts >= 4
    messages = {trial.configuration["FATE"]: trial.message for trial in result.trials}
    assert "this one does not compile" in messages["broken"]
    assert "behind it were written" in messages["beside"]


@pytest.mark.parametrize("device", devices())
def test_the_winner_is_launched_by_the_program_itself_afterwards(folder, tmp_path, device):
    path = folder(["far", "good"])
    with runtime(path, device, tmp_path) as tuner:
        assert statuses(tuner.tune("fate", n=256, run_timeout=3)) == {"far": "fault", "good": "ok"}
        if device == "host":
            import numpy

            x = numpy.arange(256, dtype=numpy.float32)
            y = tuner.fate(x)
            assert (y == 2 * x).all()
        else:
            import torch

            x = torch.arange(256, dtype=torch.float32, device="cuda")
            assert (tuner.fate(x) == 2 * x).all()


@pytest.mark.parametrize("named", ["missing", "none"])
def test_a_worker_that_cannot_be_started_is_an_error_where_one_is_asked_for(
    folder, tmp_path, monkeypatch, named
):
    monkeypatch.setenv("CUDADENT_WORKER", named if named == "none" else str(tmp_path / named))
    path = folder(["good"])
    with runtime(path, "host", tmp_path) as tuner:
        # Who names a program asks for it, as isolation="worker" does.
        for asked in ("worker", "auto") if named == "missing" else ("worker",):
            with pytest.raises(cudadent.Error, match=named) as failure:
                tuner.tune("fate", n=64, isolation=asked)
            assert failure.value.code == "device_unavailable"
        if named == "none":
            assert not tuner.tune("fate", n=64, isolation="auto").isolated
        assert not tuner.tune("fate", n=64, isolation="in_process", fresh=True).isolated


def test_failed_trials_are_not_tried_again(folder, tmp_path):
    path = folder(["good", "far", "wrong"])
    with runtime(path, "host", tmp_path) as tuner:
        tuner.tune("fate", n=128)
        again = tuner.tune("fate", n=128)
    assert statuses(again) == {"good": "ok", "far": "fault", "wrong": "wrong_result"}
    assert all(trial.from_cache for trial in again.trials)
    assert again.worker_restarts == 0


def test_this_process_is_left_as_it_was(folder, tmp_path):
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGPIPE)}
    open_before = set(os.listdir("/proc/self/fd"))
    path = folder(["good", "far"])
    with runtime(path, "host", tmp_path) as tuner:
        tuner.tune("fate", n=128)
    assert {number: signal.getsignal(number) for number in before} == before
    assert len(os.listdir("/proc/self/fd")) <= len(open_before)

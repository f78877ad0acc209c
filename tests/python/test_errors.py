"""Every way to be wrong says what was wrong."""

import os
import sqlite3

import numpy as np
import pytest

import cudadent

A = np.ones((16, 8), np.float32)
B = np.ones((24, 8), np.float32)


def refused(match):
    return pytest.raises(cudadent.InvalidArgument, match=match)


def test_errors_are_python_errors():
    assert issubclass(cudadent.Error, RuntimeError)
    assert issubclass(cudadent.InvalidArgument, (cudadent.Error, ValueError))
    with pytest.raises(ValueError) as caught:
        cudadent.op("no_such_operator")
    assert caught.value.code == "invalid_argument" and caught.value.detail == ""
    assert "gemm" in str(caught.value)  # what there is


def test_shapes(host):
    with refused(r"b has shape \[24, 7\], expected \[batch\?, n, k\] with k = 8"):
        host.gemm(A, np.ones((24, 7), np.float32))
    with refused(r"a has shape \[8\], expected \[batch\?, m, k\]"):
        host.gemm(A[0], B)
    with refused(r"c has shape \[24, 16\]"):
        host.gemm(A, B, out=np.empty((24, 16), np.float32))
    with refused("9 dimensions"):
        host.gemm(np.ones((1,) * 9, np.float32), B)


def test_data_types(host):
    with refused("a is f64, expected one of bf16, f16, f32, e4m3, e5m2"):
        host.gemm(A.astype(np.float64), B.astype(np.float64))
    with refused("b_dtype=f16 does not satisfy .*requirement 'b_dtype == dtype"):
        host.gemm(A, B.astype(np.float16))
    with refused("a has the data type complex64"):
        host.gemm(A.astype(np.complex64), B)
    with refused("a has the data type >f4"):
        host.gemm(A.astype(">f4"), B)
    with refused("out_dtype='f33' is not a data type"):
        host.gemm(A, B, out_dtype="f33")
    with refused("c is f32, but out_dtype=f16"):
        host.gemm(A, B, out=np.empty((16, 24), np.float32), out_dtype="f16")
    with refused("requirement"):
        host.gemm(A, B, out_dtype="f16")


def test_layout(host):
    with refused("a is not contiguous.*contiguous copy"):
        host.gemm(np.ones((8, 16), np.float32).T, B)
    with refused("b is not contiguous"):
        host.gemm(A, np.ones((24, 16), np.float32)[:, ::2])
    packed = np.zeros(3, np.dtype([("first", "u1"), ("value", "<f4")]))["value"]
    with refused("not (contiguous|aligned)"):
        host.rms_norm(np.ones((2, 3), np.float32), packed)


def test_read_only_arrays_are_inputs_only(host):
    frozen = A.copy()
    frozen.flags.writeable = False
    assert host.gemm(frozen, B)[0, 0] == 8
    out = np.empty((16, 24), np.float32)
    out.flags.writeable = False
    with refused("c is read-only"):
        host.gemm(A, B, out=out)
    with refused("y is read-only"):
        host.rms_norm(A, B[0], out=memoryview(bytes(A.nbytes)).cast("f", A.shape))


def test_what_is_no_tensor(host):
    with refused("b is a list, not a tensor"):
        host.gemm(A, [[1.0]])
    with refused("b is a bool"):
        host.gemm(A, True)
    with refused("b is missing"):
        host.gemm(A)
    with refused("no tensor"):
        host.gemm()


def test_shapes_of_what_is_optional(host):
    c = np.zeros((16, 24), np.float32)
    with refused(r"bias has shape \[16\], expected \[n\] with n = 24 from b \[24, 8\]"):
        host.gemm(A, B, np.ones(16, np.float32))
    with refused(r"residual has shape \[24, 16\], expected \[batch\?, m, n\] with m = 16"):
        host.gemm(A, B, residual=c.T.copy())
    with refused("residual is f16, but out_dtype is f32 in c|c is f32, but out_dtype is f16 in res"):
        host.gemm(A, B, residual=c.astype(np.float16), out=c)
    with refused(r"scale_a has shape \[2\], expected \[1\]"):
        host.gemm(A, B, scale_a=np.ones(2, np.float32))
    with refused("scale_b is f16, expected f32"):
        host.gemm(A, B, scale_b=np.ones(1, np.float16))
    with refused(r"scale_a has shape \[16, 24\], expected \[1\]"):
        host.gemm(A, B, None, c)  # the output is the last of the tensors
    half = np.ones((8, 8), np.float16)
    with refused("requirement 'precision == full or dtype == f32'"):
        host.gemm(half, half, precision="tf32")


def test_names(host):
    known = "a, b, bias, scale_a, scale_b, residual, c, out, activation"
    with refused(f'unknown argument "activasion"; known: {known}'):
        host.gemm(A, B, activasion="relu")
    with refused("activation=tanh is not allowed; expected one of none, relu"):
        host.gemm(A, B, activation="tanh")
    with refused("8 tensors given, expected at most 7"):
        host.gemm(A, B, *[None] * 5, A)
    with refused("a is given twice"):
        host.gemm(A, B, a=A)
    with refused("c is given twice"):
        host.gemm(A, B, out=np.empty((16, 24), np.float32), c=np.empty((16, 24), np.float32))
    with refused('unknown option "colour"'):
        host.op("gemm", colour="red")
    with refused("activation=tanh is not allowed"):
        cudadent.op("gemm", activation="tanh")
    with refused("eps is a str, expected a number"):
        host.rms_norm(A, B[0], eps="small")
    with refused("stream is a str"):
        host.gemm(A, B, stream="main")


def test_options_of_a_runtime(tmp_path):
    with refused("on_miss='ignore'"):
        cudadent.Runtime("host", on_miss="ignore")
    for wrong in ["forever", "nan", "inf", "0s", "-1s", "2.5 trials", "1,5s"]:
        with refused(f'budget "{wrong}"'):
            cudadent.Runtime("host", budget=wrong)
    with refused("budget='30'.*'30s' or '30 trials'"):
        cudadent.Runtime("host", budget="30")
    for wrong in [float("nan"), -1, float("-inf")]:
        with refused("budget.seconds"):
            cudadent.Runtime("host", budget=wrong)
        with refused("budget.seconds"):
            cudadent.Budget(wrong)
        with refused("wait_for_others"):
            cudadent.Runtime("host", wait_for_others=wrong)
    with refused("budget.trials = -1"):
        cudadent.Budget(trials=-1)
    with refused("tpu"):
        cudadent.Runtime("tpu")


def test_limits_of_a_run(host):
    problem = {"m": 8, "n": 8, "k": 8, "dtype": "f32"}
    for name in ["compile_timeout", "run_timeout"]:
        for wrong in [float("nan"), 0, -1]:
            with refused(f"{name} = .* above 0"):
                host.tune("gemm", problem, **{name: wrong})
    with refused("compile_workers = -1"):
        host.tune("gemm", problem, compile_workers=-1)
    with refused("budget.seconds"):
        host.tune("gemm", problem, budget=float("nan"))


def test_problems(host):
    with refused('unknown name "q"'):
        host.tune("gemm", m=1, n=1, k=1, q=1, dtype="f32")
    with refused("dimension k is missing"):
        host.tune("gemm", {"m": 1, "n": 1, "dtype": "f32"})
    with refused("dtype is missing"):
        host.winner("gemm", m=1, n=1, k=1)
    with refused("m=.* is not a number"):
        host.tune("gemm", m=[1], n=1, k=1, dtype="f32")
    with pytest.raises(cudadent.Error, match="no_such_strategy"):
        host.tune("gemm", m=1, n=1, k=1, dtype="f32", strategy="no_such_strategy")


def test_on_miss_fail():
    with cudadent.Runtime("host", cache=":memory:", on_miss="fail") as runtime:
        with pytest.raises(cudadent.Error, match="gemm m=16 k=8 n=24") as caught:
            runtime.gemm(A, B)
    assert caught.value.code == "not_tuned"


def test_a_closed_runtime():
    runtime = cudadent.Runtime("host", cache=":memory:")
    gemm = runtime.gemm
    runtime.close()
    assert runtime.closed and "closed" in repr(runtime)
    for use in (lambda: gemm(A, B), lambda: runtime.device_name, lambda: runtime.op("gemm")):
        with refused("closed"):
            use()
    runtime.close()  # again does no harm


def make_text(path):
    path.write_text("This is a text, not a database. " * 100)


def make_another_programs(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE trials (mine INTEGER)")


@pytest.mark.parametrize("make", [make_text, make_another_programs, os.mkdir], ids=lambda f: f.__name__)
def test_a_cache_that_cannot_be_used(tmp_path, caplog, make):
    path = tmp_path / "cudadent.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with cudadent.Runtime("host", cache=path, on_miss="nearest") as runtime:
        for _ in range(2):
            assert np.allclose(runtime.gemm(A, B), A @ B.T, rtol=1e-4)
        # What is found out is kept as long as the Runtime lives.
        runtime.tune("rms_norm", rows=4, columns=16, dtype="f32", budget="1 trials")
        assert runtime.winner("rms_norm", rows=4, columns=16, dtype="f32").provenance == "cached"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    (warning,) = [message for message in warnings if "cudadent.db" in message]
    assert "CUDADENT_CACHE" in warning and "kept in memory" in warning
    if before is not None:
        assert path.read_bytes() == before

"""Attention on the host, against NumPy: by what a call alone says."""

import inspect

import numpy as np
import pytest
import reference

import cudadent

ml_dtypes = pytest.importorskip("ml_dtypes")

F16 = np.float16


def random(generator, *shape, dtype=F16):
    return generator.standard_normal(shape).astype(dtype)


def check(out, lse, sequences, **how):
    """`sequences`: q, k, v of each; out and lse have what belongs to each in the same place."""
    for i, (q, k, v) in enumerate(sequences):
        expected, expected_lse = reference.attention(q, k, v, **how)
        if expected.size > 0:
            assert reference.relative_error(out[i], expected) < 2e-3
            np.testing.assert_allclose(lse[i], expected_lse, atol=2e-3)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"causal": True},
        {"softcap": 3},
        {"window": 9},
        {"window": 0},
        {"scale": 0},
        {"scale": 0.5, "window": 5, "softcap": 0.5, "causal": True},
    ],
    ids=str,
)
def test_a_window_a_cap_and_a_scale_are_enough_alone(host, generator, how):
    q = random(generator, 2, 17, 4, 24)
    k, v = (random(generator, 2, 23, 2, 24) for _ in range(2))
    out, lse = host.attention(q, k, v, return_lse=True, **how)
    assert out.shape == q.shape and out.dtype == F16
    assert lse.shape == (2, 4, 17) and lse.dtype == np.float32
    check(out, lse, list(zip(q, k, v, strict=True)), **how)


def test_a_window_may_change_from_call_to_call(host, generator):
    q, k, v = (random(generator, 1, 40, 1, 16) for _ in range(3))
    attention = host.op("attention", window=7)
    for window in (3, 4, 60, -1):
        out, lse = attention(q, k, v, window=window, return_lse=True)
        check(out, lse, [(q[0], k[0], v[0])], window=window)
    check(*attention(q, k, v, return_lse=True), [(q[0], k[0], v[0])], window=7)
    assert "window=7" in attention.prepare(q, k, v).problem
    assert "window" not in attention.prepare(q, k, v, window=-1).problem


def test_outputs_are_written_where_the_caller_says(host, generator):
    q, k, v = (random(generator, 1, 5, 2, 8) for _ in range(3))
    out, lse = np.empty_like(q), np.empty((1, 2, 5), np.float32)
    result = host.attention(q, k, v, out=out, lse=lse, return_lse=True)
    assert result[0] is out and result[1] is lse
    assert host.attention(q, k, v, out=out, return_lse=False) is out
    np.testing.assert_array_equal(host.attention(q, k, v, lse=True)[1], lse)


def starts_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def split(tensor, starts, axis=0):
    return np.split(tensor, starts[1:-1], axis=axis)


@pytest.mark.parametrize("how", [{}, {"causal": True, "window": 12}], ids=str)
def test_sequences_one_behind_the_other(host, generator, how):
    cu_queries, cu_keys = starts_of([3, 0, 40, 1]), starts_of([20, 5, 0, 77])
    q = random(generator, 44, 4, 40)
    k, v = (random(generator, 102, 2, 40) for _ in range(2))
    starts = {"cu_queries": cu_queries, "cu_keys": cu_keys}
    out, lse = host.attention(q, k, v, return_lse=True, **starts, **how)
    assert out.shape == q.shape and lse.shape == (4, 44)
    sequences = zip(split(q, cu_queries), split(k, cu_keys), split(v, cu_keys), strict=True)
    check(split(out, cu_queries), split(lse, cu_queries, axis=1), list(sequences), **how)


def paged(generator, lengths, page_size, kv_heads, head_dim):
    """A cache whose unused rows are NaN, its table with entries not to be read, and k and v."""
    width = max(-(-length // page_size) for length in lengths) + 1
    pages = len(lengths) * width + 3
    cache = np.full((2, pages, page_size, kv_heads, head_dim), np.nan, F16)
    table = np.full((len(lengths), width), -(10**8), np.int32)
    free = iter(generator.permutation(pages))
    both = []
    for row, length in zip(table, lengths, strict=True):
        both.append(random(generator, 2, length, kv_heads, head_dim))
        for first in range(0, length, page_size):
            page = row[first // page_size] = next(free)
            rows = both[-1][:, first : first + page_size]
            cache[:, page, : rows.shape[1]] = rows
    return cache[0], cache[1], table, np.array(lengths, np.int32), both


@pytest.mark.parametrize("page_size", [1, 7, 16, 64])
@pytest.mark.parametrize("how", [{}, {"causal": True}, {"window": 6, "softcap": 2.0}], ids=str)
def test_pages(host, generator, page_size, how):
    k, v, table, lengths, both = paged(generator, [50, 1, 0, 64], page_size, 2, 16)
    q = random(generator, 4, 3, 4, 16)
    pages = {"block_table": table, "kv_lengths": lengths}
    out, lse = host.attention(q, k, v, return_lse=True, **pages, **how)
    assert out.shape == q.shape and lse.shape == (4, 4, 3)
    check(out, lse, [(queries, *kv) for queries, kv in zip(q, both, strict=True)], **how)


def test_pages_and_queries_one_behind_the_other(host, generator):
    k, v, table, lengths, both = paged(generator, [33, 9, 20], 8, 1, 32)
    cu_queries = starts_of([1, 9, 2])
    q = random(generator, 12, 2, 32)
    places = {"block_table": table, "kv_lengths": lengths, "cu_queries": cu_queries}
    out, lse = host.attention(q, k, v, causal=True, return_lse=True, **places)
    sequences = [(queries, *kv) for queries, kv in zip(split(q, cu_queries), both, strict=True)]
    check(split(out, cu_queries), split(lse, cu_queries, axis=1), sequences, causal=True)


def test_parts_of_a_cache_that_is_not_full(host, generator):
    q = random(generator, 3, 2, 2, 24)
    k, v = (random(generator, 3, 50, 2, 24) for _ in range(2))
    lengths = np.array([50, 0, 17], np.int32)
    for tensor in (k, v):
        for row, length in zip(tensor, lengths, strict=True):
            row[length:] = np.nan
    out, lse = host.attention(q, k, v, kv_lengths=lengths, return_lse=True)
    sequences = [(q[i], k[i, :length], v[i, :length]) for i, length in enumerate(lengths)]
    check(out, lse, sequences)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"window": 2.5}, "window=2.5 is not an integer"),
        ({"window": float("nan")}, "window=nan is not a finite number"),
        ({"window": float("inf")}, "window=inf is not a finite number"),
        ({"softcap": float("nan")}, "softcap=nan is not a finite number"),
        ({"softcap": float("inf")}, "softcap=inf is not a finite number"),
        ({"scale": float("nan")}, "scale=nan is not a finite number; leave scale out"),
        ({"scale": float("inf")}, "scale=inf is not a finite number"),
        ({"scale": -0.5}, "scale=-0.5 is out of range, expected 0 to 1"),
        ({"scale": 2e6}, "scale=.* is out of range"),
        ({"window": "near"}, "window is a str, expected a number"),
        ({"softcap": -1}, "'softcap >= 0'"),
        ({"block_table": np.zeros((1, 2), np.int32)}, "has_kv_lengths or not has_block_table"),
        ({"cu_queries": np.zeros(2, np.int32)}, r"expected \[queries, heads, head_dim\]"),
        ({"cu_keys": np.zeros(2, np.int64)}, "cu_keys is i64, expected i32"),
    ],
    ids=str,
)
def test_calls_that_do_not_fit(host, given, message):
    q, k, v = (np.zeros((1, 4, 2, 8), F16) for _ in range(3))
    if "cu_keys" in given:
        k, v = k[0], v[0]
    with pytest.raises(cudadent.InvalidArgument, match=message):
        host.attention(q, k, v, **given)


def test_scales_out_of_range_are_refused_when_the_problem_is_known(host, generator):
    q = random(generator, 1, 4, 2, 8)
    expected = host.attention(q, q, q)
    for scale in (-0.5, float("inf"), float("nan")):
        with pytest.raises(cudadent.InvalidArgument, match="scale="):
            host.attention(q, q, q, scale=scale)
        with pytest.raises(cudadent.InvalidArgument, match="scale="):
            host.op("attention", scale=scale)
    np.testing.assert_array_equal(host.attention(q, q, q, scale=None), expected)


@pytest.mark.parametrize("starts", [[16, 20], [0, 5, 5, 30], [7, 7, 7]], ids=str)
def test_rows_of_no_sequence_are_left_alone(host, generator, starts):
    queries, heads, dim = 40, 2, 16
    q = random(generator, queries, heads, dim)
    batch = len(starts) - 1
    k, v = (random(generator, batch, 9, heads, dim) for _ in range(2))
    out = np.full_like(q, 77)
    lse = np.full((heads, queries), 77, np.float32)
    cu_queries = np.array(starts, np.int32)
    host.attention(q, k, v, out=out, lse=lse, cu_queries=cu_queries)
    sequences = [(q[starts[i] : starts[i + 1]], k[i], v[i]) for i in range(batch)]
    inside = slice(starts[0], starts[-1])
    check(
        split(out[inside], cu_queries - starts[0]),
        split(lse[:, inside], cu_queries - starts[0], axis=1),
        sequences,
    )
    for tensor in (out, lse.T):
        assert np.all(tensor[: starts[0]] == 77) and np.all(tensor[starts[-1] :] == 77)


def test_a_nan_in_a_score_is_a_nan_in_its_row(host, generator):
    q, k, v = (random(generator, 1, 30, 2, 16) for _ in range(3))
    clean, clean_lse = host.attention(q, k, v, causal=True, return_lse=True)
    q[0, 4, 1, 3] = k[0, 20, 0, 2] = np.nan
    out, lse = host.attention(q, k, v, causal=True, return_lse=True)
    wrong = np.zeros((1, 30, 2), bool)
    wrong[0, 4, 1] = wrong[0, 20:, 0] = True
    np.testing.assert_array_equal(np.isnan(out), np.repeat(wrong[..., None], 16, axis=3))
    np.testing.assert_array_equal(np.isnan(lse), wrong.transpose(0, 2, 1))
    np.testing.assert_array_equal(out[~wrong], clean[~wrong])
    np.testing.assert_array_equal(lse[~np.isnan(lse)], clean_lse[~np.isnan(lse)])
    nothing, no_lse = host.attention(q, k, v, window=0, return_lse=True)
    assert np.all(nothing == 0) and np.all(no_lse == -np.inf)


@pytest.mark.parametrize("how", [{"causal": True}, {"window": 7}], ids=str)
def test_values_that_a_row_does_not_see_do_not_spoil_it(host, generator, how):
    q, k, v = (random(generator, 1, 60, 1, 16) for _ in range(3))
    clean = host.attention(q, k, v, **how)
    v[0, 40] = np.nan
    out = host.attention(q, k, v, **how)
    sees = np.arange(60) >= 40 if "causal" in how else abs(np.arange(60) - 40) < 7
    assert np.isnan(out[0, sees]).all()
    np.testing.assert_array_equal(out[0, ~sees], clean[0, ~sees])


def test_pages_in_front_of_the_window_are_not_looked_up(host, generator):
    k, v, table, lengths, both = paged(generator, [50, 9], 8, 1, 16)
    q = random(generator, 2, 1, 1, 16)
    expected = host.attention(q, k, v, block_table=table, kv_lengths=lengths, window=20)
    table[0, : (50 - 20) // 8] = -(10**8)
    out = host.attention(q, k, v, block_table=table, kv_lengths=lengths, window=20)
    np.testing.assert_array_equal(out, expected)
    table[:] = -(10**8)
    none = host.attention(q, k, v, block_table=table, kv_lengths=lengths, window=0)
    assert np.all(none == 0)


def test_outputs_over_inputs(host, generator):
    q, k, v = (random(generator, 1, 20, 1, 16) for _ in range(3))
    expected = host.attention(q, k, v)
    for name, out in (("k", k), ("v", v)):
        with pytest.raises(cudadent.InvalidArgument, match=f"out shares memory with {name}"):
            host.attention(q, k, v, out=out)
    memory = np.zeros(2 * q.size, F16)
    memory[: q.size] = q.ravel()
    first, shifted = memory[: q.size].reshape(q.shape), memory[16 : 16 + q.size].reshape(q.shape)
    with pytest.raises(cudadent.InvalidArgument, match="it may only be q itself"):
        host.attention(first, k, v, out=shifted)
    assert reference.relative_error(host.attention(first, k, v, out=first), expected) < 1e-3
    # q, k, v and out side by side in each row: none is over another.
    rows = np.zeros((1, 20, 1, 64), F16)
    rows[..., :16], rows[..., 16:32], rows[..., 32:48] = q, k, v
    parts = [rows[..., i : i + 16] for i in range(0, 64, 16)]
    assert reference.relative_error(host.attention(*parts[:3], out=parts[3]), expected) < 1e-3


def test_its_signature():
    parameters = inspect.signature(cudadent.attention).parameters
    assert list(parameters)[:4] == ["q", "k", "v", "out"]
    assert parameters["window"].default == -1 and parameters["softcap"].default == 0
    assert parameters["scale"].default is None  # it depends on head_dim
    assert parameters["return_lse"].default is False

"""A matrix product in Triton, c = a · bᵀ, with the choices a user of Triton would let its autotuner try."""

import torch
import triton
import triton.language as tl

# Block shapes by how they suit tall, square and flat products, each with what they leave open.
SHAPES = [(m, n, k) for m in (64, 128) for n in (64, 128, 256) for k in (32, 64)]
SHAPES += [(256, n, k) for n in (64, 128) for k in (32, 64)]
SKINNY_SHAPES = [(m, n, 128) for m in (16, 32) for n in (64, 128)]


def configurations():
    def configuration(shape, stages, warps):
        sizes = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), shape))
        return triton.Config({**sizes, "BAND": 8}, num_stages=stages, num_warps=warps)

    def warps(shape):
        return 8 if shape[0] * shape[1] >= 128 * 128 else 4

    wide = [configuration(shape, s, warps(shape)) for shape in SHAPES for s in (3, 4)]
    return wide + [configuration(shape, 4, 4) for shape in SKINNY_SHAPES]


@triton.jit
def matmul(
    a,
    b,
    c,
    m,
    n,
    k,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BAND: tl.constexpr,
):
    # Programs walk down bands of BAND block rows, so that neighbours share what is in the L2 cache.
    program = tl.program_id(0)
    block_rows = tl.cdiv(m, BLOCK_M)
    in_band = BAND * tl.cdiv(n, BLOCK_N)
    first_row = program // in_band * BAND
    height = min(block_rows - first_row, BAND)
    row = first_row + program % in_band % height
    column = program % in_band // height

    rows = row * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_K)
    # Beyond the edge other rows are read again; what they give is not stored.
    left = a + (rows % m)[:, None] * k + depth[None, :]
    right = b + (columns % n)[None, :] * k + depth[:, None]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        inside = depth < k - start
        x = tl.load(left, mask=inside[None, :], other=0.0)
        y = tl.load(right, mask=inside[:, None], other=0.0)
        total = tl.dot(x, y, total)
        left += BLOCK_K
        right += BLOCK_K
    place = c + rows[:, None] * n + columns[None, :]
    tl.store(
        place, total.to(c.dtype.element_ty), mask=(rows < m)[:, None] & (columns < n)[None, :]
    )


def grid(m, n):
    return lambda sizes: (triton.cdiv(m, sizes["BLOCK_M"]) * triton.cdiv(n, sizes["BLOCK_N"]),)


def autotune(m, n, k):
    """The configuration Triton's autotuner chooses, as plain values, and how many it tried."""
    a = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
    c = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
    tuned = triton.autotune(configs=configurations(), key=["m", "n", "k"])(matmul)
    tuned[grid(m, n)](a, b, c, m, n, k)
    torch.cuda.synchronize()
    best = tuned.best_config
    chosen = {**best.kwargs, "num_stages": best.num_stages, "num_warps": best.num_warps}
    return chosen, len(configurations())


def launcher(a, b, c, configuration):
    """A call that computes c = a · bᵀ with one configuration."""
    (m, k), n = a.shape, b.shape[0]
    launch = matmul[grid(m, n)]
    return lambda: launch(a, b, c, m, n, k, **configuration)

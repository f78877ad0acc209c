"""Problems of attention, their inputs as PyTorch's tensors, and what is right in float64.

Each problem is a number of sequences: of one length (Case), or of lengths of their own (Sequences).
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Optional

import torch

TORCH_TYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


class Attention:
    """softmax(mask(q · kᵀ / √head_dim)) · v; a sequence's last query stands at its last key."""

    @property
    def options(self):
        """As keywords of a call and of a tuning run."""
        options = {"causal": self.causal}
        if self.window is not None:
            options.update(window=self.window)
        if self.softcap is not None:
            options.update(softcap=self.softcap)
        return options

    @property
    def plain(self):
        return self.window is None and self.softcap is None

    @property
    def tuned_as(self):
        """The name of what is tuned: problems that share it share a winner."""
        return self.name

    def named(self, *sizes):
        heads = f"h{self.heads}" + (f"x{self.kv_heads}" if self.kv_heads != self.heads else "")
        parts = [f"hd{self.head_dim}", heads, *sizes]
        parts += ["causal"] if self.causal else []
        parts += [f"window{self.window}"] if self.window is not None else []
        parts += [f"softcap{self.softcap:g}"] if self.softcap is not None else []
        parts += [self.dtype] if self.dtype != "bf16" else []
        return "-".join(parts)

    def pairs(self, queries, keys):
        """Queries of a sequence times the keys that they see, of one head."""
        unlimited = keys + queries
        ahead = 0 if self.causal else unlimited
        reach = unlimited if self.window is None else self.window - 1
        seen = 0
        for place in range(keys - queries, keys):
            first = max(0, place - reach)
            last = min(keys - 1, place + min(ahead, reach))
            seen += max(0, last - first + 1)
        return seen

    @property
    def flops(self):
        return 4 * self.heads * self.head_dim * sum(self.pairs(*pair) for pair in self.lengths)

    @property
    def bytes(self):
        """Read once and written once, at least; keys that no query sees are counted too."""
        rows = sum(queries * self.heads + keys * self.kv_heads for queries, keys in self.lengths)
        return 2 * rows * self.head_dim * TORCH_TYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Case(Attention):
    """Sequences of one length."""

    head_dim: int
    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    causal: bool = False
    dtype: str = "bf16"
    window: Optional[int] = None  # only keys less than so far away, on both sides unless causal
    softcap: Optional[float] = None  # scores s become softcap · tanh(s / softcap)

    @property
    def name(self):
        keys = f"k{self.keys}" if self.keys != self.queries else ""
        return self.named(f"b{self.batch}", f"s{self.queries}{keys}")

    @property
    def values(self):
        return {
            "batch": self.batch,
            "query_length": self.queries,
            "kv_length": self.keys,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "dtype": self.dtype,
            **self.options,
        }

    @property
    def lengths(self):
        """Numbers of queries and of keys, of each sequence."""
        return [(self.queries, self.keys)] * self.batch


@dataclass(frozen=True)
class Sequences(Attention):
    """Sequences of lengths of their own.

    Keys lie one behind the other, in pages of `page_size`, or each sequence's in a part of k and v
    that has room for `room`. With pages or parts, queries are a batch where each sequence has as
    many; else they lie one behind the other.
    """

    label: str  # what lengths these are
    head_dim: int
    queries: tuple  # how many, of each sequence
    keys: tuple
    heads: int
    kv_heads: int
    causal: bool = False
    dtype: str = "bf16"
    window: Optional[int] = None
    softcap: Optional[float] = None
    page_size: Optional[int] = None
    room: Optional[int] = None  # for keys of a sequence, in its part or in all pages of its list
    spare: int = 0  # rows, or pages, that belong to no sequence
    says_longest: bool = False  # the call says how long the longest sequences are

    @property
    def name(self):
        return self.named(self.label, *self._places)

    @property
    def tuned_as(self):
        """Winners of lengths that only the tensors say, and the manifest not, are shared."""
        if self.room is None or self.packed_queries:
            return self.name
        sizes = f"b{len(self.keys)}", f"s{self.queries[0]}k{self.room}"
        return self.named(*sizes, *self._places)

    @property
    def _places(self):
        places = [f"page{self.page_size}"] if self.page_size else ["parts"] if self.room else []
        return places + (["longest"] if self.says_longest else [])

    @property
    def lengths(self):
        return list(zip(self.queries, self.keys))

    @property
    def packed_queries(self):
        return self.room is None or len(set(self.queries)) != 1

    @property
    def options(self):
        if not self.says_longest:
            return super().options
        return {**super().options, "max_queries": max(self.queries), "max_keys": max(self.keys)}

    @property
    def pages_a_sequence(self):
        return -(-self.room // self.page_size)

    @property
    def pages(self):
        """There are enough for all sequences to be as long as there is room for."""
        return len(self.keys) * self.pages_a_sequence + self.spare

    @property
    def values(self):
        values = {
            "batch": len(self.keys),
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "dtype": self.dtype,
            **self.options,
        }
        if self.packed_queries:
            values.update(cu_queries=True, queries=sum(self.queries) + self.spare)
        else:
            values.update(query_length=self.queries[0])
        if self.page_size:
            values.update(block_table=True, kv_lengths=True, page_size=self.page_size)
            values.update(pages=self.pages, pages_a_sequence=self.pages_a_sequence)
        elif self.room:
            values.update(kv_lengths=True, kv_length=self.room)
        else:
            values.update(cu_keys=True, keys=sum(self.keys) + self.spare)
        return values

    @property
    def in_parts(self):
        """The same sequences without pages."""
        return dataclasses.replace(self, page_size=None)


# ------------------------------------------------------------------------------- inputs


@dataclass
class Inputs:
    """What a call gets, what that was made of, and the same sequence by sequence."""

    tensors: dict  # q, k, v, and what says where sequences lie
    drawn: tuple  # q, k and v without rows and pages of no sequence
    q: list  # of each sequence, queries × heads × head_dim
    k: list  # keys × kv_heads × head_dim
    v: list

    @property
    def sequences(self):
        return list(zip(self.q, self.k, self.v))


def drawn(case):
    """Random q, k and v: sequence behind sequence, or batch × sequence, × heads × head_dim."""
    if isinstance(case, Case):
        rows_q, rows_k = (case.batch, case.queries), (case.batch, case.keys)
    else:
        rows_q, rows_k = (sum(case.queries),), (sum(case.keys),)
    shapes = [(*rows_q, case.heads), (*rows_k, case.kv_heads), (*rows_k, case.kv_heads)]
    return [
        torch.randn(*shape, case.head_dim, device="cuda", dtype=TORCH_TYPES[case.dtype])
        for shape in shapes
    ]


def as_indices(values):
    return torch.tensor(values, device="cuda", dtype=torch.int32)


def starts_of(lengths):
    """Where each of so many begins when they lie one behind the other, and where the last ends."""
    return [0, *itertools.accumulate(lengths)]


def nothing_like(tensor, *shape):
    """NaNs, which a kernel must not count."""
    return torch.full(shape, math.nan, device=tensor.device, dtype=tensor.dtype)


def with_spare(case, tensor):
    return torch.cat([tensor, nothing_like(tensor, case.spare, *tensor.shape[1:])])


def in_parts(case, sequences):
    parts = nothing_like(sequences[0], len(sequences), case.room, *sequences[0].shape[1:])
    for part, rows in zip(parts, sequences):
        part[: len(rows)] = rows
    return parts


def in_pages(case, sequences, tables):
    pages = nothing_like(sequences[0], case.pages, case.page_size, *sequences[0].shape[1:])
    for rows, table in zip(sequences, tables):
        full = nothing_like(rows, len(table) * case.page_size, *rows.shape[1:])
        full[: len(rows)] = rows
        pages[table] = full.view(len(table), case.page_size, *rows.shape[1:])
    return pages


def placed(case, q, k, v):
    """Inputs of what was drawn, or made of it: rows and pages of no sequence are NaN."""
    if isinstance(case, Case):
        return Inputs({"q": q, "k": k, "v": v}, (q, k, v), list(q), list(k), list(v))
    parts = q.split(case.queries), k.split(case.keys), v.split(case.keys)
    inputs = Inputs({}, (q, k, v), *parts)
    tensors = inputs.tensors
    if case.packed_queries:
        tensors.update(q=with_spare(case, q), cu_queries=as_indices(starts_of(case.queries)))
    else:
        tensors.update(q=q.view(len(case.queries), -1, *q.shape[1:]))
    if case.page_size:
        # Pages in no order; entries of the table behind a sequence's end are no pages.
        counts = [-(-keys // case.page_size) for keys in case.keys]
        order = torch.randperm(case.pages, device="cuda")
        tables = order[: sum(counts)].split(counts)
        block_table = as_indices([[-1] * case.pages_a_sequence] * len(counts))
        for row, table in zip(block_table, tables):
            row[: len(table)] = table
        tensors.update(k=in_pages(case, inputs.k, tables), v=in_pages(case, inputs.v, tables))
        tensors.update(block_table=block_table, kv_lengths=as_indices(case.keys))
    elif case.room:
        tensors.update(k=in_parts(case, inputs.k), v=in_parts(case, inputs.v))
        tensors.update(kv_lengths=as_indices(case.keys))
    else:
        tensors.update(k=with_spare(case, k), v=with_spare(case, v))
        tensors.update(cu_keys=as_indices(starts_of(case.keys)))
    return inputs


def inputs_of(case):
    return placed(case, *drawn(case))


def sequences_of(case, out):
    """Of an output, what belongs to each sequence: queries × heads × head_dim."""
    if isinstance(case, Case) or not case.packed_queries:
        return list(out)
    return out[: sum(case.queries)].split(case.queries)


# ------------------------------------------------------------------------------- what is right


def visible(case, places, keys):
    """Which of the keys the queries at these places see: a mask that broadcasts the two."""
    distance = places - keys
    mask = distance >= (0 if case.causal else -(1 << 30))
    if case.window is not None:
        mask = mask & (distance.abs() < case.window)
    return mask


def exact(case, q, k, v, head, chunk=1024):
    """One head of one sequence in float64: queries × head_dim, and the logarithms of the sums."""
    kv_head = head // (case.heads // case.kv_heads)
    key, value = k[:, kv_head].double(), v[:, kv_head].double()
    # Of a query that sees nothing: zeros, and -inf.
    out = torch.zeros(len(q), case.head_dim, device=q.device, dtype=torch.float64)
    lse = torch.full((len(q),), -math.inf, device=q.device, dtype=torch.float64)
    if len(k) == 0:
        return out, lse
    columns = torch.arange(len(k), device=q.device)
    for start in range(0, len(q), chunk):
        rows = q[start : start + chunk, head].double()
        scores = rows @ key.T / math.sqrt(case.head_dim)
        if case.softcap is not None:
            scores = case.softcap * torch.tanh(scores / case.softcap)
        places = torch.arange(start, start + len(rows), device=q.device) + len(k) - len(q)
        scores = scores.masked_fill(~visible(case, places[:, None], columns), -math.inf)
        out[start : start + chunk] = torch.softmax(scores, -1).nan_to_num(0) @ value
        lse[start : start + chunk] = torch.logsumexp(scores, -1)
    return out, lse

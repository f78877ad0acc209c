// Attention in float64, and what its inputs can have in them that results must not depend on.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include "runtime/operators/problem.h"

namespace cudadent::test {

// One a tensor, in manifest order; absent ones are empty.
using Tensors = std::vector<std::vector<double>>;
// Of each element of a tensor whether something holds; empty: of none.
using Elements = std::vector<bool>;

// Fills out and lse. Rows of no sequence are NaN.
void attention(const Problem& problem, Tensors& tensors);

// Changes inputs: sequences that begin behind the first row or end in front of the last, and now and then
// NaNs and infinities among queries, keys and values.
void vary_attention(const Problem& problem, Tensors& tensors, std::mt19937_64& random);

// Of tensor i of k, v and block_table, the elements that a result depends on; of others nothing. Keys of no
// sequence are not among them, nor pages in front of the window, nor the entries that list those.
Elements attention_elements_in_use(const Problem& problem, const Tensors& tensors, std::size_t i);

// Of tensor i, out or lse, the elements that belong to no sequence: nobody writes these.
Elements attention_rows_of_nobody(const Problem& problem, const Tensors& tensors, std::size_t i);

// Of out, the elements that may be NaN on templates that multiply values by probabilities of zero: those whose row
// does not see a NaN in its column of v, but a key near it (docs/kernels/attention.md says how near).
Elements attention_elements_near_nan(const Problem& problem, const Tensors& tensors);

}  // namespace cudadent::test

#include "tests/support/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace cudadent::test {

namespace {

// Keys from `low` to below `high`.
struct Seen {
  std::int64_t low = 0, high = 0;
};

// A sequence of queries, and the rows of k and v that are its keys.
struct Sequence {
  std::size_t batch = 0, first_query = 0, queries = 0;
  std::vector<std::size_t> key_rows;
};

class Problems {
 public:
  Problems(const Problem& problem, const Tensors& tensors) : problem_(problem), tensors_(tensors) {}

  [[nodiscard]] std::size_t size(const char* name) const {
    return static_cast<std::size_t>(std::get<std::int64_t>(problem_.values.at(name)));
  }
  [[nodiscard]] std::size_t index(const char* name) const {
    return *problem_.op->tensor_index(name);
  }
  [[nodiscard]] const std::vector<double>& tensor(const char* name) const {
    return tensors_[index(name)];
  }
  [[nodiscard]] bool causal() const { return std::get<bool>(problem_.values.at("causal")); }
  [[nodiscard]] double scalar(const char* name) const {
    return problem_.scalars[*problem_.op->scalar_index(name)];
  }

  [[nodiscard]] std::vector<Sequence> sequences() const {
    const std::size_t page = size("page_size"), width = size("pages_a_sequence");
    std::vector<Sequence> all;
    for (std::size_t z = 0; z < size("batch"); ++z) {
      Sequence one{.batch = z};
      one.first_query = z * size("query_length");
      one.queries = size("query_length");
      if (const auto& starts = tensor("cu_queries"); !starts.empty()) {
        // What a list has beyond the tensor counts as its end.
        const double first = std::max(0.0, starts[z]);
        const double end = std::min(static_cast<double>(size("queries")), starts[z + 1]);
        one.first_query = static_cast<std::size_t>(first);
        one.queries = static_cast<std::size_t>(std::max(0.0, end - first));
      }
      const std::size_t first_key = at("cu_keys", z).value_or(z * size("kv_length"));
      std::size_t keys = at("cu_keys", z + 1).value_or(first_key + size("kv_length")) - first_key;
      keys = at("kv_lengths", z).value_or(keys);
      for (std::size_t j = 0; j < keys; ++j)
        one.key_rows.push_back(page == 0 ? first_key + j
                                         : entry(z * width + j / page) * page + j % page);
      all.push_back(std::move(one));
    }
    return all;
  }

  // What query i of a sequence sees.
  [[nodiscard]] Seen seen(const Sequence& sequence, std::size_t i) const {
    const auto keys = static_cast<std::int64_t>(sequence.key_rows.size());
    const auto position =
        static_cast<std::int64_t>(i) + keys - static_cast<std::int64_t>(sequence.queries);
    const auto window = static_cast<std::int64_t>(scalar("window"));
    Seen result{0, causal() ? std::min(keys, position + 1) : keys};
    if (window >= 0) {
      result.low = std::max<std::int64_t>(0, position - window + 1);
      result.high = std::min(result.high, position + window);
    }
    if (result.high < result.low) result.high = result.low;
    return result;
  }
  // The first key that any of its queries sees; nothing where none sees any.
  [[nodiscard]] std::optional<std::size_t> first_seen(const Sequence& sequence) const {
    for (std::size_t i = 0; i < sequence.queries; ++i)
      if (const Seen keys = seen(sequence, i); keys.low < keys.high)
        return static_cast<std::size_t>(keys.low);
    return std::nullopt;
  }

  // Where the row of a query begins in q and out, that of a key in k and v, and a query's place in lse.
  [[nodiscard]] std::size_t query_row(const Sequence& sequence, std::size_t i,
                                      std::size_t head) const {
    return ((sequence.first_query + i) * size("heads") + head) * size("head_dim");
  }
  [[nodiscard]] std::size_t key_row(const Sequence& sequence, std::size_t j,
                                    std::size_t head) const {
    const std::size_t kv_head = head / (size("heads") / size("kv_heads"));
    return (sequence.key_rows[j] * size("kv_heads") + kv_head) * size("head_dim");
  }
  [[nodiscard]] std::size_t lse_place(const Sequence& sequence, std::size_t i,
                                      std::size_t head) const {
    if (!tensor("cu_queries").empty()) return head * size("queries") + sequence.first_query + i;
    return (sequence.batch * size("heads") + head) * sequence.queries + i;
  }
  // Goes through all rows of all heads.
  void each_row(
      const std::function<void(const Sequence&, std::size_t i, std::size_t head)>& visit) const {
    for (const auto& sequence : sequences())
      for (std::size_t head = 0; head < size("heads"); ++head)
        for (std::size_t i = 0; i < sequence.queries; ++i) visit(sequence, i, head);
  }

 private:
  // Index i of an integer tensor; nothing where there is no such tensor.
  [[nodiscard]] std::optional<std::size_t> at(const char* name, std::size_t i) const {
    const auto& all = tensor(name);
    return all.empty() ? std::nullopt : std::optional(static_cast<std::size_t>(all[i]));
  }
  [[nodiscard]] std::size_t entry(std::size_t i) const { return *at("block_table", i); }

  const Problem& problem_;
  const Tensors& tensors_;
};

bool happens(unsigned percent, std::mt19937_64& random) { return random() % 100 < percent; }

// Of a list of where sequences begin and end, sometimes the first and the last further inwards.
void trim(std::vector<double>& starts, std::mt19937_64& random) {
  const auto between = [&](double low, double high) {
    return low + static_cast<double>(random() % (static_cast<std::uint64_t>(high - low) + 1));
  };
  if (starts.size() < 2) return;
  if (happens(40, random)) starts.front() = between(starts.front(), starts[1]);
  if (happens(40, random)) starts.back() = between(starts[starts.size() - 2], starts.back());
}

// Some elements, of rows that may be anybody's, or whole rows.
void put(std::vector<double>& elements, std::size_t row_length,
         std::initializer_list<double> values, std::mt19937_64& random) {
  if (elements.empty()) return;
  for (auto count = 1 + random() % 3; count > 0; --count) {
    const double value = *(values.begin() + random() % values.size());
    const std::size_t at = random() % elements.size();
    if (happens(70, random))
      elements[at] = value;
    else
      std::fill_n(elements.begin() + static_cast<std::ptrdiff_t>(at - at % row_length), row_length,
                  value);
  }
}

}  // namespace

void attention(const Problem& problem, Tensors& tensors) {
  const Problems given(problem, tensors);
  const std::size_t dim = given.size("head_dim");
  const double scale = given.scalar("scale"), softcap = given.scalar("softcap");
  const auto &q = given.tensor("q"), &k = given.tensor("k"), &v = given.tensor("v");
  std::vector<double> out(q.size(), NAN), lse;
  if (problem.has(problem.op->tensors[given.index("lse")])) lse.resize(q.size() / dim, NAN);
  given.each_row([&](const Sequence& sequence, std::size_t i, std::size_t head) {
    const std::size_t row = given.query_row(sequence, i, head);
    const Seen seen = given.seen(sequence, i);
    std::vector<double> scores;
    double largest = -INFINITY, total = 0;
    for (auto j = seen.low; j < seen.high; ++j) {
      const std::size_t key = given.key_row(sequence, static_cast<std::size_t>(j), head);
      double score = 0;
      for (std::size_t x = 0; x < dim; ++x) score += q[row + x] * k[key + x];
      score *= scale;
      if (softcap > 0) score = softcap * std::tanh(score / softcap);
      scores.push_back(score);
      largest = std::max(largest, score);
    }
    for (std::size_t x = 0; x < dim; ++x) out[row + x] = 0;
    for (std::size_t j = 0; j < scores.size(); ++j) {
      const double power = std::exp(scores[j] - largest);
      const std::size_t key = given.key_row(sequence, static_cast<std::size_t>(seen.low) + j, head);
      total += power;
      for (std::size_t x = 0; x < dim; ++x) out[row + x] += power * v[key + x];
    }
    if (!scores.empty())
      for (std::size_t x = 0; x < dim; ++x) out[row + x] /= total;
    if (!lse.empty())
      lse[given.lse_place(sequence, i, head)] =
          scores.empty() ? -INFINITY : largest + std::log(total);
  });
  tensors[given.index("out")] = std::move(out);
  tensors[given.index("lse")] = std::move(lse);
}

void vary_attention(const Problem& problem, Tensors& tensors, std::mt19937_64& random) {
  const auto tensor = [&](const char* name) -> std::vector<double>& {
    return tensors[*problem.op->tensor_index(name)];
  };
  const std::size_t dim = Problems(problem, tensors).size("head_dim");
  for (const char* name : {"cu_queries", "cu_keys"}) trim(tensor(name), random);
  if (happens(15, random)) put(tensor("q"), dim, {NAN, INFINITY, -INFINITY}, random);
  if (happens(15, random)) put(tensor("k"), dim, {NAN, INFINITY, -INFINITY}, random);
  if (happens(15, random)) put(tensor("v"), dim, {NAN}, random);
}

Elements attention_elements_in_use(const Problem& problem, const Tensors& tensors, std::size_t i) {
  const Problems given(problem, tensors);
  const std::string& name = problem.op->tensors[i].name;
  if (tensors[i].empty() || (name != "k" && name != "v" && name != "block_table")) return {};
  const std::size_t row = given.size("kv_heads") * given.size("head_dim");
  const std::size_t page = given.size("page_size"), width = given.size("pages_a_sequence");
  Elements used(tensors[i].size(), false);
  for (const auto& sequence : given.sequences()) {
    std::size_t first = 0;
    if (page > 0) {  // the first of a page
      const auto seen = given.first_seen(sequence);
      first = seen ? *seen / page * page : sequence.key_rows.size();
    }
    for (std::size_t j = first; j < sequence.key_rows.size(); ++j)
      if (name == "block_table")
        used[sequence.batch * width + j / page] = true;
      else
        std::fill_n(used.begin() + static_cast<std::ptrdiff_t>(sequence.key_rows[j] * row), row,
                    true);
  }
  return used;
}

Elements attention_rows_of_nobody(const Problem& problem, const Tensors& tensors, std::size_t i) {
  const Problems given(problem, tensors);
  const bool is_lse = i == given.index("lse");
  const std::size_t length = is_lse ? 1 : given.size("head_dim");
  Elements nobodys(tensors[i].size(), true);
  given.each_row([&](const Sequence& sequence, std::size_t query, std::size_t head) {
    const std::size_t at =
        is_lse ? given.lse_place(sequence, query, head) : given.query_row(sequence, query, head);
    std::fill_n(nobodys.begin() + static_cast<std::ptrdiff_t>(at), length, false);
  });
  return nobodys;
}

Elements attention_elements_near_nan(const Problem& problem, const Tensors& tensors) {
  constexpr std::int64_t near = 640;  // 384 queries of a pair of tiles, and a block of 256 keys
  const Problems given(problem, tensors);
  const auto& v = given.tensor("v");
  const std::size_t dim = given.size("head_dim");
  if (std::none_of(v.begin(), v.end(), [](double x) { return std::isnan(x); })) return {};
  Elements elements(given.tensor("q").size(), false);
  given.each_row([&](const Sequence& sequence, std::size_t i, std::size_t head) {
    const Seen seen = given.seen(sequence, i);
    const auto keys = static_cast<std::int64_t>(sequence.key_rows.size());
    for (auto j = std::max<std::int64_t>(0, seen.low - near); j < std::min(keys, seen.high + near);
         ++j) {
      const std::size_t key = given.key_row(sequence, static_cast<std::size_t>(j), head);
      for (std::size_t x = 0; x < dim; ++x)
        if (std::isnan(v[key + x])) elements[given.query_row(sequence, i, head) + x] = true;
    }
  });
  return elements;
}

}  // namespace cudadent::test

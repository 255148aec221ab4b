// Keep the largest numbers of each row, and put them back. pruned_tensors.py also has a slower
// version in numpy.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

namespace {

constexpr int64_t kSample = 512;  // the search starts from a sample of this many numbers
constexpr int64_t kFew = 256;      // this many candidates or fewer are searched directly
constexpr int kBlock = 64;         // numbers per block; their bits fill one 64-bit word

// All bits of a number except its sign; as integers they sort like magnitudes.
int32_t magnitude(const float* number) {
  int32_t bits;
  std::memcpy(&bits, number, sizeof bits);
  return bits & 0x7fffffff;
}

int64_t count_above(const float* row, int64_t columns, int32_t limit) {
  int32_t count = 0;
  for (int64_t i = 0; i < columns; ++i) count += magnitude(row + i) > limit;
  return count;
}

// The `rank`-th largest number; the largest has rank 0.
int32_t largest(std::vector<int32_t>& some, int64_t rank) {
  std::nth_element(some.begin(), some.begin() + rank, some.end(), std::greater<int32_t>());
  return some[rank];
}

// Magnitude of the smallest of the `kept` largest numbers. It is above `low` and not above `high`.
// A sample gives the first two limits. Counting halves the interval until few numbers are left.
// These are searched directly.
int32_t smallest_kept(const float* row, int64_t columns, int64_t kept, std::vector<int32_t>& some) {
  const int64_t stride = std::max<int64_t>(1, columns / kSample);
  some.clear();
  for (int64_t i = 0; i < columns; i += stride) some.push_back(magnitude(row + i));
  const int64_t size = some.size();
  const double share = static_cast<double>(kept) / columns;
  const int64_t rank = static_cast<int64_t>(share * size);
  const int64_t doubt = 2 + static_cast<int64_t>(3 * std::sqrt(size * share * (1 - share)));
  int32_t low = rank + doubt < size ? largest(some, rank + doubt) : -1;
  int32_t high = rank >= doubt ? largest(some, rank - doubt) : std::numeric_limits<int32_t>::max();
  int64_t above_low = count_above(row, columns, low);
  int64_t above_high = count_above(row, columns, high);
  if (above_low < kept) low = -1, above_low = columns;
  if (above_high >= kept) high = std::numeric_limits<int32_t>::max(), above_high = 0;
  while (above_low - above_high > kFew && high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    const int64_t above = count_above(row, columns, middle);
    if (above >= kept)
      low = middle, above_low = above;
    else
      high = middle, above_high = above;
  }
  if (high - low == 1) return high;

  some.clear();
  for (int64_t first = 0; first < columns; first += kBlock) {
    const int64_t end = std::min(columns, first + kBlock);
    int32_t any_candidate = 0;
    for (int64_t i = first; i < end; ++i) {
      const int32_t value = magnitude(row + i);
      any_candidate |= (value > low) & (value <= high);
    }
    for (int64_t i = first; any_candidate && i < end; ++i) {
      const int32_t value = magnitude(row + i);
      if (value > low && value <= high) some.push_back(value);
    }
  }
  return largest(some, kept - above_high - 1);
}

// One bit for each of up to 64 numbers: 1 if its magnitude is at least `limit`.
uint64_t at_least(const float* numbers, int64_t count, int32_t limit) {
  uint8_t flags[kBlock] = {};
  for (int64_t i = 0; i < count; ++i) flags[i] = magnitude(numbers + i) >= limit;
  uint64_t bits = 0;
  for (int byte = 0; byte < 8; ++byte) {
    uint64_t eight;
    std::memcpy(&eight, flags + 8 * byte, 8);
    bits |= ((eight * 0x0102040810204080u) >> 56) << (8 * byte);  // eight flags to eight bits
  }
  return bits;
}

void keep_row(const float* row, int64_t columns, int64_t kept, float* values, uint8_t* bits,
              std::vector<int32_t>& some, std::vector<uint64_t>& words) {
  const int32_t limit = smallest_kept(row, columns, kept, some);
  words.assign((columns + kBlock - 1) / kBlock, 0);
  int64_t surplus = -kept;
  for (size_t word = 0; word < words.size(); ++word) {
    const int64_t first = word * kBlock;
    const int64_t count = std::min<int64_t>(kBlock, columns - first);
    words[word] = at_least(row + first, count, limit);
    surplus += __builtin_popcountll(words[word]);
  }
  for (int64_t i = columns - 1; surplus > 0; --i) {  // of equal magnitudes the last are removed
    if (magnitude(row + i) != limit) continue;
    words[i / kBlock] &= ~(uint64_t{1} << (i % kBlock));
    --surplus;
  }
  std::memcpy(bits, words.data(), (columns + 7) / 8);
  for (size_t word = 0; word < words.size(); ++word)
    for (uint64_t rest = words[word]; rest; rest &= rest - 1)
      *values++ = row[word * kBlock + __builtin_ctzll(rest)];
}

}  // namespace

// x [rows, columns] -> values [rows, kept], bits [rows, columns / 8 rounded up], lowest bit first.
extern "C" void keep_largest(const float* x, int64_t kept, float* values, uint8_t* bits,
                             int64_t rows, int64_t columns, int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<int32_t> some;
    std::vector<uint64_t> words;
#pragma omp for
    for (int64_t row = 0; row < rows; ++row)
      keep_row(x + row * columns, columns, kept, values + row * kept,
               bits + row * ((columns + 7) / 8), some, words);
  }
}

// The inverse: values, bits -> x [rows, columns]; x is zero where no bit is set.
extern "C" void spread(const float* values, const uint8_t* bits, int64_t columns, float* x,
                       int64_t rows, int64_t kept, int threads) {
  const int64_t bytes = (columns + 7) / 8;
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    const float* value = values + row * kept;
    float* out = x + row * columns;
    std::memset(out, 0, columns * sizeof(float));
    for (int64_t first = 0; first < bytes; first += 8) {
      uint64_t rest = 0;
      std::memcpy(&rest, bits + row * bytes + first, std::min<int64_t>(8, bytes - first));
      for (; rest; rest &= rest - 1) out[8 * first + __builtin_ctzll(rest)] = *value++;
    }
  }
}

// Pack fp32 numbers into codes of 2, 4 or 8 bits, and unpack them. The modules of the same folder
// (quantise8.py, group_codes.py, gelu_levels.py) define each kernel in torch's operators; here the
// same operations are done in the same order, so codes are equal bit for bit. The compiler must not
// fuse a product and a sum (-ffp-contract=off).
//
// A word of 32 bits holds numbers a fixed stride apart: word j of a row of `words` words holds
// numbers j, j + words, j + 2 * words, ..., the first in the lowest bits.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

constexpr int kWord = 32;                      // bits of a word
constexpr float kFinest = 1.0f / (1 << 20);    // smallest level, as a share of the largest number
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float fraction(float sum) { return sum - std::floor(sum); }

// The code of a level, cut off and clamped. NaN becomes 0.
template <int bits>
int32_t code_of(float level) {
  constexpr float most = (1 << bits) - 1;
  level = level > 0.0f ? level : 0.0f;
  return static_cast<int32_t>(level < most ? level : most);
}

// The larger number, or NaN if one of them is NaN.
float larger(float a, float b) { return std::isnan(a) || std::isnan(b) ? kNan : std::max(a, b); }

float step_of(float low, float width, float share) {
  const float largest = larger(std::fabs(low), std::fabs(low + width));
  const float step = larger(width * share, largest * kFinest);
  return step < std::numeric_limits<float>::min() ? std::numeric_limits<float>::min() : step;
}

// Smallest and largest of some numbers; both are NaN if one of them is NaN. Each quarter has its own
// extremes, so that the processor need not wait for the comparison before.
void extremes(const float* x, int64_t count, float& low, float& high) {
  const int64_t quarter = count / 4;
  float low0 = kInfinity, low1 = kInfinity, low2 = kInfinity, low3 = kInfinity;
  float high0 = -kInfinity, high1 = -kInfinity, high2 = -kInfinity, high3 = -kInfinity;
  int32_t nans = 0;
#pragma omp simd reduction(min : low0, low1, low2, low3) \
    reduction(max : high0, high1, high2, high3) reduction(| : nans)
  for (int64_t i = 0; i < quarter; ++i) {
    const float a = x[i], b = x[i + quarter], c = x[i + 2 * quarter], d = x[i + 3 * quarter];
    low0 = a < low0 ? a : low0, high0 = a > high0 ? a : high0;
    low1 = b < low1 ? b : low1, high1 = b > high1 ? b : high1;
    low2 = c < low2 ? c : low2, high2 = c > high2 ? c : high2;
    low3 = d < low3 ? d : low3, high3 = d > high3 ? d : high3;
    nans |= __builtin_isunordered(a, b) | __builtin_isunordered(c, d);
  }
  low = std::min(std::min(low0, low1), std::min(low2, low3));
  high = std::max(std::max(high0, high1), std::max(high2, high3));
  for (int64_t i = 4 * quarter; i < count; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
    nans |= std::isnan(x[i]);
  }
  if (nans) low = high = kNan;
}

template <int bits>
void pack_groups(const float* x, const float* rows, const float* columns, uint32_t* words,
                 float* lows, float* steps, int64_t count, int64_t width, int threads) {
  constexpr int codes = kWord / bits;
  constexpr float share = 1.0 / ((1 << bits) - 1);
  const int64_t length = width / codes;
#pragma omp parallel num_threads(threads)
  {
    std::vector<uint32_t> buffer(width);  // the codes of a group
    uint32_t* code = buffer.data();
#pragma omp for
    for (int64_t row = 0; row < count; ++row) {
      const float* group = x + row * width;
      uint32_t* out = words + row * length;
      float low, high;
      extremes(group, width, low, high);
      const float step = step_of(low, high - low, share), inverse = 1.0f / step;
      const float least = low * inverse, shift = rows[row];
      lows[row] = low, steps[row] = step;
      for (int64_t i = 0; i < width; ++i) {
        const float level = group[i] * inverse + (fraction(shift + columns[i]) - least);
        code[i] = code_of<bits>(level);
      }
      std::copy_n(code, length, out);
      for (int place = 1; place < codes; ++place)
        for (int64_t j = 0; j < length; ++j) out[j] |= code[place * length + j] << (bits * place);
    }
  }
}

template <int bits>
void unpack_groups(const int32_t* words, const float* lows, const float* steps, float* x,
                   int64_t count, int64_t length, int threads) {
  constexpr int codes = kWord / bits;
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < count; ++row) {
    const float low = lows[row], step = steps[row];
    for (int place = 0; place < codes; ++place) {
      float* out = x + (row * codes + place) * length;
      for (int64_t j = 0; j < length; ++j) {
        const int32_t code = (words[row * length + j] >> (bits * place)) & ((1 << bits) - 1);
        out[j] = static_cast<float>(code) * step + low;
      }
    }
  }
}

}  // namespace

extern "C" {

// x [rows, channels] -> smallest and largest number of each channel; both are NaN if one is NaN.
void extremes8(const float* x, float* lows, float* highs, int64_t count, int64_t width,
               int threads) {
  std::fill_n(lows, width, kInfinity);
  std::fill_n(highs, width, -kInfinity);
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> least(width, kInfinity), most(width, -kInfinity);
    float *low = least.data(), *high = most.data();
#pragma omp for nowait
    for (int64_t first = 0; first < count; first += 4) {
      const float* a = x + first * width;  // four rows at a time; the last four may have fewer
      const float* b = x + std::min(first + 1, count - 1) * width;
      const float* c = x + std::min(first + 2, count - 1) * width;
      const float* d = x + std::min(first + 3, count - 1) * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const float low0 = a[i] < b[i] ? a[i] : b[i], low1 = c[i] < d[i] ? c[i] : d[i];
        const float high0 = a[i] > b[i] ? a[i] : b[i], high1 = c[i] > d[i] ? c[i] : d[i];
        const float lower = low0 < low1 ? low0 : low1, higher = high0 > high1 ? high0 : high1;
        const bool nan = __builtin_isunordered(a[i], b[i]) | __builtin_isunordered(c[i], d[i]);
        // A NaN in low stays: a comparison with it is false, which selects low again.
        low[i] = nan ? kNan : low[i] > lower ? lower : low[i];
        high[i] = nan ? kNan : high[i] < higher ? higher : high[i];
      }
    }
#pragma omp critical
    for (int64_t i = 0; i < width; ++i) {
      lows[i] = std::isnan(low[i]) || low[i] < lows[i] ? low[i] : lows[i];
      highs[i] = std::isnan(high[i]) || high[i] > highs[i] ? high[i] : highs[i];
    }
  }
}

// lows, highs [groups, channels], low, width [groups] -> low, width [groups], and four
// [groups, channels].
void move8(const float* lows, const float* highs, const float* low, const float* width,
           float* new_low, float* new_width, float* read_low, float* step, float* inverse,
           float* offset, int64_t groups, int64_t channels, int) {
  constexpr float decay = 0.9, rest = 1 - 0.9, share = 1.0 / 255;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t first = group * channels;
    float now = kInfinity, highest = -kInfinity;
    int32_t nans = 0;
    for (int64_t i = first; i < first + channels; ++i) {
      now = lows[i] < now ? lows[i] : now;
      highest = highs[i] > highest ? highs[i] : highest;
      nans |= __builtin_isunordered(lows[i], highs[i]);
    }
    const float now_width = nans ? kNan : highest - now;
    float moved = low[group], moved_width = width[group];
    const bool usable = std::isfinite(now_width);
    if (usable) {
      moved = std::isnan(moved) ? now : decay * moved + rest * now;
      moved_width = std::isnan(moved_width) ? now_width : decay * moved_width + rest * now_width;
    }
    new_low[group] = moved, new_width[group] = moved_width;
    const float level = step_of(moved, moved_width, share);
    std::fill_n(read_low + first, channels, usable ? moved : kNan);
    std::fill_n(step + first, channels, level);
    std::fill_n(inverse + first, channels, 1.0f / level);
    std::fill_n(offset + first, channels, -moved * (1.0f / level));
  }
}

// x [rows, channels], inverse, offset [channels], noise of rows and columns -> words.
void pack8(const float* x, const float* inverse, const float* offset, const float* rows,
           const float* columns, int32_t* words, int64_t count, int64_t width, int threads) {
  const int64_t length = width / 4;
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < count; ++row) {
    const float* numbers = x + row * width;
    int32_t* out = words + row * length;
    const float shift = rows[row];
    for (int64_t j = 0; j < length; ++j) {
      uint32_t word = 0;
      for (int place = 0; place < 4; ++place) {
        const int64_t i = place * length + j;
        const float added = fraction(shift + columns[i]) + offset[i];
        word |= static_cast<uint32_t>(code_of<8>(numbers[i] * inverse[i] + added)) << (8 * place);
      }
      out[j] = static_cast<int32_t>(word);
    }
  }
}

// words [rows, channels / 4], low, step [channels] -> x [rows, channels].
void unpack8(const int32_t* words, const float* low, const float* step, float* x, int64_t count,
             int64_t length, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < count; ++row) {
    for (int place = 0; place < 4; ++place) {
      const int64_t first = place * length;
      float* out = x + row * 4 * length + first;
      for (int64_t j = 0; j < length; ++j) {
        const int32_t code = (words[row * length + j] >> (8 * place)) & 255;
        out[j] = static_cast<float>(code) * step[first + j] + low[first + j];
      }
    }
  }
}

void pack2(const float* x, const float* rows, const float* columns, uint32_t* words, float* lows,
           float* steps, int64_t count, int64_t width, int threads) {
  pack_groups<2>(x, rows, columns, words, lows, steps, count, width, threads);
}

void pack4(const float* x, const float* rows, const float* columns, uint32_t* words, float* lows,
           float* steps, int64_t count, int64_t width, int threads) {
  pack_groups<4>(x, rows, columns, words, lows, steps, count, width, threads);
}

void unpack2(const int32_t* words, const float* lows, const float* steps, float* x, int64_t count,
             int64_t length, int threads) {
  unpack_groups<2>(words, lows, steps, x, count, length, threads);
}

void unpack4(const int32_t* words, const float* lows, const float* steps, float* x, int64_t count,
             int64_t length, int threads) {
  unpack_groups<4>(words, lows, steps, x, count, length, threads);
}

// x [rows, numbers], thresholds [3] -> words: how many thresholds each number exceeds.
void find_levels(const float* x, const float* thresholds, int32_t* words, int64_t count,
                 int64_t width, int threads) {
  const int64_t length = width / 16;
  const float first = thresholds[0], second = thresholds[1], third = thresholds[2];
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t j = 0; j < length; ++j) {
      uint32_t word = 0;
      for (int place = 0; place < 16; ++place) {
        const float number = x[row * width + place * length + j];
        const uint32_t code = (number > first) + (number > second) + (number > third);
        word |= code << (2 * place);
      }
      words[row * length + j] = static_cast<int32_t>(word);
    }
  }
}

// words [rows, length], levels [4] -> x [rows, 16 * length]: the level of each code.
void read_levels(const int32_t* words, const float* levels, float* x, int64_t count,
                 int64_t length, int threads) {
  const float none = levels[0], one = levels[1], two = levels[2], three = levels[3];
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < count; ++row) {
    const int32_t* packed = words + row * length;
    for (int place = 0; place < 16; ++place) {
      float* out = x + (row * 16 + place) * length;
      for (int64_t j = 0; j < length; ++j) {
        const int32_t code = (packed[j] >> (2 * place)) & 3;
        const float lower = code == 0 ? none : one, upper = code == 2 ? two : three;
        out[j] = code < 2 ? lower : upper;
      }
    }
  }
}

}  // extern "C"

// The encoder itself: two passes of the Viterbi search over each block of a column, columns and blocks in parallel.
// Tail-biting by rotate and repeat (QTIP, arXiv 2406.11235, section 3.4): a first pass around the seam fixes the bits that both
// ends share, the second is bound to them.
#include "viterbi.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "bindings.h"
#include "table.h"

namespace nb = nanobind;

namespace leanto {
namespace {

constexpr int kSeamWindows = 16;  // rows on each side of the seam that the first pass looks at, in windows' worth of bits
constexpr size_t kMostThreads = 64;
constexpr float kNever = std::numeric_limits<float>::infinity();

// Integer value of each window, as float: A[w0 ^ w8] + B[w4 ^ ((w8 << 1) & 15)].
std::vector<float> window_values(const int8_t* tables) {
    std::vector<float> values(kWindows);
    for (int w = 0; w < kWindows; ++w) {
        const int w0 = w & 15, w4 = (w >> 4) & 15, w8 = w >> 8;
        values[w] = static_cast<float>(tables[w0 ^ w8] + tables[16 + (w4 ^ ((w8 << 1) & 15))]);
    }
    return values;
}

template <int Bits>
void portable_step(const ViterbiStep& s, uint8_t* choice, float target, float weight) {
    constexpr int branches = 1 << Bits, groups = kWindows >> Bits;
    for (int g = 0; g < groups; ++g) {
        float least = s.cost[g];
        int at = 0;
        for (int b = 1; b < branches; ++b)
            if (s.cost[g + b * groups] < least) least = s.cost[g + b * groups], at = b;
        s.best[g] = least;
        choice[g] = static_cast<uint8_t>(at);
    }
    for (int w = 0; w < kWindows; ++w) {
        const float miss = target - s.values[w];
        s.cost[w] = s.best[w >> Bits] + weight * (miss * miss);
    }
}

ViterbiStepFunction chosen_step(int bits) {
#ifdef LEANTO_AVX2
    if (std::strcmp(kernels().name, "avx2") == 0) return viterbi_step_avx2(bits);
#endif
    constexpr ViterbiStepFunction steps[] = {portable_step<1>, portable_step<2>, portable_step<3>, portable_step<4>};
    return steps[bits - 1];
}

// Encodes one block of one column after the other; one per thread, it owns the scratch.
class BlockEncoder {
public:
    BlockEncoder(const float* values, int bits)
        : values_(values), bits_(bits), groups_(kWindows >> bits), step_(chosen_step(bits)), cost_(kWindows), best_(groups_ + 8),
          choice_(kBlockRows * static_cast<size_t>(groups_)), path_(kBlockRows) {}

    // targets, weights: (rows,), rows a multiple of 8 and at most 256. Returns the window of each row of the best cyclic string.
    const std::vector<int>& encode(const float* targets, const float* weights, int rows) {
        if (rows * bits_ < kWindowBits) {
            encode_short(targets, weights, rows);
        } else {
            const int seam = settle_seam(targets, weights, rows);
            search(targets, weights, rows, 0, rows, seam);
        }
        return path_;
    }

private:
    int settle_seam(const float* targets, const float* weights, int rows) {
        const int half = std::min(rows / 2, kSeamWindows * kWindowBits / bits_);
        search(targets, weights, rows, rows - half, 2 * half, -1);
        return path_[half] & (groups_ - 1);
    }

    // Cheapest path over `count` rows from row `start` on (cyclic), into path_. seam >= 0 fixes the 12 - bits bits of both ends.
    void search(const float* targets, const float* weights, int rows, int start, int count, int seam) {
        const auto row = [&](int t) { return start + t < rows ? start + t : start + t - rows; };
        start_at_end(targets[row(count - 1)], weights[row(count - 1)], seam);
        const ViterbiStep state{cost_.data(), best_.data(), values_};
        for (int t = count - 2; t >= 0; --t) step_(state, choices(t), targets[row(t)], weights[row(t)]);
        path_[0] = cheapest_window(seam);
        for (int t = 1; t < count; ++t) {
            const int group = path_[t - 1] >> bits_;
            path_[t] = group | choices(t - 1)[group] << (kWindowBits - bits_);
        }
    }

    void start_at_end(float target, float weight, int seam) {
        for (int w = 0; w < kWindows; ++w) {
            const float miss = target - values_[w];
            cost_[w] = seam >= 0 && w >> bits_ != seam ? kNever : weight * (miss * miss);
        }
    }

    int cheapest_window(int seam) const {
        int at = seam >= 0 ? seam : 0;
        for (int w = at; w < kWindows; w += seam >= 0 ? groups_ : 1)
            if (cost_[w] < cost_[at]) at = w;
        return at;
    }

    // Strings shorter than a window (8 rows at 1 bit): every string is tried.
    void encode_short(const float* targets, const float* weights, int rows) {
        const int length = rows * bits_;
        const auto window = [&](int string, int t) {
            int w = 0;
            for (int i = 0; i < kWindowBits; ++i) w |= (string >> ((t * bits_ + i) % length) & 1) << i;
            return w;
        };
        float least = kNever;
        int best = 0;
        for (int string = 0; string < 1 << length; ++string) {
            float cost = 0;
            for (int t = 0; t < rows; ++t) {
                const float miss = targets[t] - values_[window(string, t)];
                cost += weights[t] * (miss * miss);
            }
            if (cost < least) least = cost, best = string;
        }
        for (int t = 0; t < rows; ++t) path_[t] = window(best, t);
    }

    uint8_t* choices(int t) { return choice_.data() + static_cast<size_t>(groups_) * static_cast<size_t>(t); }

    const float* values_;
    int bits_, groups_;
    ViterbiStepFunction step_;
    std::vector<float> cost_, best_;
    std::vector<uint8_t> choice_;
    std::vector<int> path_;
};

struct Job {
    const float *targets, *weights;  // (rows, columns), (rows,)
    const int8_t* tables;            // (2, 16)
    size_t rows, columns;
    int bits;
    uint8_t* codes;   // (rows * bits / 8, columns), zeros before
    int8_t* decoded;  // (rows, columns)
};

// A row's own bits are the lowest `bits` of its window; they fill the column's string from its first bit on.
void store(const Job& job, const std::vector<int>& path, const std::vector<float>& values, size_t top, size_t height, size_t column) {
    const size_t bits = static_cast<size_t>(job.bits);
    for (size_t t = 0; t < height; ++t) {
        job.decoded[(top + t) * job.columns + column] = static_cast<int8_t>(values[path[t]]);
        for (size_t i = 0; i < bits; ++i) {
            const size_t at = (top + t) * bits + i;
            job.codes[at / 8 * job.columns + column] |= static_cast<uint8_t>((path[t] >> i & 1) << at % 8);
        }
    }
}

void encode_all(const Job& job, size_t threads) {
    const std::vector<float> values = window_values(job.tables);
    const size_t blocks = (job.rows + kBlockRows - 1) / kBlockRows, tasks = blocks * job.columns;
    std::atomic<size_t> next{0};
    const auto work = [&] {
        BlockEncoder encoder(values.data(), job.bits);
        std::vector<float> targets(kBlockRows);
        for (size_t task = next++; task < tasks; task = next++) {
            const size_t top = task / job.columns * kBlockRows, column = task % job.columns, height = std::min(kBlockRows, job.rows - top);
            for (size_t t = 0; t < height; ++t) targets[t] = job.targets[(top + t) * job.columns + column];
            store(job, encoder.encode(targets.data(), job.weights + top, static_cast<int>(height)), values, top, height, column);
        }
    };
    std::vector<std::thread> others;
    try {
        for (size_t i = 1; i < std::min({threads, tasks, kMostThreads}); ++i) others.emplace_back(work);
    } catch (const std::system_error&) {
        // No more threads to be had: those that exist do the work.
    }
    work();
    for (std::thread& other : others) other.join();
}

using Targets = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tables = nb::ndarray<const int8_t, nb::shape<2, 16>, nb::c_contig, nb::device::cpu>;

void check(const Targets& x, const Tables& tables, int bits, const std::optional<Weights>& weights) {
    if (bits < 1 || bits > 4) throw nb::value_error("encode_trellis: bits must be 1, 2, 3 or 4");
    if (x.shape(0) == 0 || x.shape(0) % kRowGroup != 0) throw nb::value_error("encode_trellis: x must have a multiple of 8 rows");
    if (!std::all_of(x.data(), x.data() + x.size(), [](float v) { return std::isfinite(v); }))
        throw nb::value_error("encode_trellis: x has a value that is not finite");
    if (weights && weights->size() != x.shape(0)) throw nb::value_error("encode_trellis: weights must have one entry per row of x");
    if (weights && !std::all_of(weights->data(), weights->data() + weights->size(), [](float v) { return std::isfinite(v) && v >= 0; }))
        throw nb::value_error("encode_trellis: weights must be finite and not negative");
    for (int i = 0; i < 256; ++i)
        if (std::abs(tables.data()[i >> 4] + tables.data()[16 + (i & 15)]) > 127)
            throw nb::value_error("encode_trellis: a sum of the two tables leaves [-127, 127]");
}

template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<2>> hand_over(std::unique_ptr<T[]> data, size_t rows, size_t columns) {
    T* raw = data.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return {raw, {rows, columns}, owner};
}

nb::tuple encode_trellis(Targets x, Tables tables, int bits, int threads, std::optional<Weights> weights) {
    check(x, tables, bits, weights);
    const size_t rows = x.shape(0), columns = x.shape(1), code_rows = rows / 8 * static_cast<size_t>(bits);
    auto codes = std::make_unique<uint8_t[]>(code_rows * columns);
    auto decoded = std::make_unique<int8_t[]>(rows * columns);
    {
        nb::gil_scoped_release release;
        const std::vector<float> ones(weights ? 0 : rows, 1.0f);
        const Job job{x.data(), weights ? weights->data() : ones.data(), tables.data(), rows, columns, bits, codes.get(), decoded.get()};
        encode_all(job, threads > 0 ? static_cast<size_t>(threads) : std::max(1u, std::thread::hardware_concurrency()));
    }
    return nb::make_tuple(hand_over(std::move(codes), code_rows, columns), hand_over(std::move(decoded), rows, columns));
}

}  // namespace
}  // namespace leanto

void bind_viterbi(nb::module_& module) {
    module.def("encode_trellis", &leanto::encode_trellis, nb::arg("x"), nb::arg("tables"), nb::arg("bits"), nb::arg("threads") = 0,
               nb::arg("weights") = nb::none(),
               "Tail-biting trellis codes nearest to x.\n\n"
               "x: (m, c) float32 in units of the tables, m a multiple of 8; tables: (2, 16) int8; bits: 1 to 4; threads: 0 takes all\n"
               "cores; weights: (m,) float32, importance of each row's squared error (None: all 1; 0 leaves a row free).\n"
               "Returns (codes (m*bits/8, c) uint8, values (m, c) int8, what the codes decode to). Raises ValueError.");
}

// The encoder itself: two passes of the Viterbi search over each block of a column, columns and blocks in parallel.
// Tail-biting by rotate and repeat (QTIP, arXiv 2406.11235, section 3.4): a first pass around the seam fixes the bits that both
// ends share, the second is bound to them.
#include "viterbi.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <system_error>
#include <thread>

#include "coding.h"

namespace leanto {
namespace {

constexpr int kSeamWindows = 16;  // rows on each side of the seam that the first pass looks at, in windows' worth of bits
constexpr int kSeamTurns = 8;
constexpr size_t kMostThreads = 64;
constexpr size_t kSpare = 16;  // floats after a row of costs: a step may read some without effect, and rows stay aligned
constexpr int kLowerEvery = 64;    // rows after which costs are brought back to around zero, where floats are fine
constexpr float kFarthest = 1e6f;  // a target beyond it is as good as there: integers end at 127
constexpr float kNever = std::numeric_limits<float>::infinity();

template <int Window, int Bits>
void portable_step(const float* values, const float* after, float* before, float linear, float square) {
    constexpr int branches = 1 << Bits, groups = 1 << (Window - Bits);
    for (int g = 0; g < groups; ++g) {
        float least = kNever;
        for (int b = 0; b < branches; ++b) {
            const int w = g + b * groups;
            least = std::min(least, std::fma(values[w], std::fma(square, values[w], linear), after[w >> Bits]));
        }
        before[g] = least;
    }
}

template <int Window> constexpr ViterbiStep kSteps[] = {portable_step<Window, 1>, portable_step<Window, 2>, portable_step<Window, 3>,
                                                        portable_step<Window, 4>};
constexpr ViterbiStep kScalarSteps[] = {portable_step<1, 1>, portable_step<2, 2>, portable_step<3, 3>, portable_step<4, 4>};

ViterbiStep chosen_step(Coding coding, int bits) {
#ifdef LEANTO_AVX512
    if (std::strcmp(kernels().name, "avx512") == 0)
        if (const ViterbiStep step = viterbi_step_avx512(coding, bits)) return step;
#endif
#ifdef LEANTO_AVX2
    if (std::strcmp(kernels().name, "scalar") != 0)
        if (const ViterbiStep step = viterbi_step_avx2(coding, bits)) return step;
#endif
#ifdef LEANTO_NEON
    if (std::strcmp(kernels().name, "scalar") != 0)
        if (const ViterbiStep step = viterbi_step_neon(coding, bits)) return step;
#endif
    switch (coding) {
        case Coding::trellis: return kSteps<kTrellisWindow>[bits - 1];
        case Coding::additive: return kSteps<kAdditiveWindow>[bits - 1];
        default: return kScalarSteps[bits - 1];
    }
}

int seam_rows(int window, int bits) { return kSeamWindows * window / bits; }

}  // namespace

BlockEncoder::BlockEncoder(Coding coding, int bits, const int8_t* tables)
    : bits_(bits), window_(window_bits(coding, bits)), groups_(1 << (window_ - bits)), integers_(window_values(coding, bits, tables)),
      values_(integers_.size()), step_(chosen_step(coding, bits)), linear_(kBlockRows), square_(kBlockRows),
      cost_stride_((static_cast<size_t>(groups_) + 2 * kSpare - 1) / kSpare * kSpare),
      path_(std::max(kBlockRows, 2 * static_cast<size_t>(seam_rows(window_, bits)))), costs_((path_.size() + 1) * cost_stride_) {
    std::copy(integers_.begin(), integers_.end(), values_.get());
}

const std::vector<int>& BlockEncoder::encode(const float* targets, const float* weights, int rows) {
    if (rows * bits_ < window_) {
        encode_short(targets, weights, rows);
        return path_;
    }
    set_costs(targets, weights, rows);
    if (groups_ == 1) {
        search(rows, 0, rows, 0);
    } else {
        settle_seam(rows);
        if (rows <= seam_rows(window_, bits_)) search_short(rows);
        else search(rows, 0, rows, path_[static_cast<size_t>(seam_rows(window_, bits_))] & (groups_ - 1));
    }
    return path_;
}

// weight · (target - v)² without the part that is the same for all v, the largest weight as 1.
void BlockEncoder::set_costs(const float* targets, const float* weights, int rows) {
    const float largest = *std::max_element(weights, weights + rows);
    for (size_t t = 0; t < static_cast<size_t>(rows); ++t) {
        square_[t] = largest > 0 ? weights[t] / largest : 0.0f;
        linear_[t] = -2 * square_[t] * std::clamp(targets[t], -kFarthest, kFarthest);
    }
}

// A path over the rows around the seam, more than once around a short block: where it crosses the seam it has the bits that both share.
void BlockEncoder::settle_seam(int rows) {
    const int half = seam_rows(window_, bits_);
    search(rows, rows - half % rows, 2 * half, -1);
}

// In a block that is short beside its windows one crossing is often a poor choice: all are tried, and then the search is repeated with
// the seam elsewhere, bound there to the best string found so far, which can only get better.
void BlockEncoder::search_short(int rows) {
    const int half = seam_rows(window_, bits_);
    std::vector<int> seams, best;
    for (int t = half % rows; t < 2 * half; t += rows) seams.push_back(path_[static_cast<size_t>(t)] & (groups_ - 1));
    std::sort(seams.begin(), seams.end());
    seams.erase(std::unique(seams.begin(), seams.end()), seams.end());
    float least = kNever;
    for (const int seam : seams) {
        search(rows, 0, rows, seam);
        const float cost = cost_of_path(rows);
        if (best.empty() || cost < least) least = cost, best = path_;
    }
    path_ = best;
    for (int turn = 1; turn <= kSeamTurns; ++turn) {
        const int start = turn * rows * 5 / 8 % rows;
        search(rows, start, rows, path_[static_cast<size_t>(start)] & (groups_ - 1));
        std::rotate(path_.begin(), path_.begin() + (rows - start), path_.begin() + rows);
    }
}

float BlockEncoder::cost_of_path(int rows) const {
    float cost = 0;
    for (size_t t = 0; t < static_cast<size_t>(rows); ++t) {
        const float v = values_.get()[static_cast<size_t>(path_[t])];
        cost += v * (square_[t] * v + linear_[t]);
    }
    return cost;
}

// Cheapest path over `count` rows from row `start` on (cyclic), into path_. seam >= 0: the group that both ends must have.
void BlockEncoder::search(int rows, int start, int count, int seam) {
    const auto row = [&](int t) { return static_cast<size_t>((start + t) % rows); };
    std::fill_n(costs(count), groups_, seam < 0 ? 0.0f : kNever);
    if (seam >= 0) costs(count)[seam] = 0;
    for (int t = count - 1; t >= 0; --t) {
        step_(values_.get(), costs(t + 1), costs(t), linear_[row(t)], square_[row(t)]);
        if (t % kLowerEvery == 0) lower_costs(t);
    }
    int group = seam >= 0 ? seam : static_cast<int>(std::min_element(costs(0), costs(0) + groups_) - costs(0));
    for (int t = 0; t < count; ++t) {
        const int window = best_window(group, row(t), costs(t + 1));
        path_[static_cast<size_t>(t)] = window;
        group = window >> bits_;
    }
}

// Any group's cost will do: they differ by what a few rows cost.
void BlockEncoder::lower_costs(int t) {
    const float level = costs(t)[0];
    if (!std::isfinite(level)) return;
    for (float* cost = costs(t); cost < costs(t) + groups_; ++cost) *cost -= level;
}

int BlockEncoder::best_window(int group, size_t row, const float* after) const {
    int best = group;
    float least = kNever;
    for (int w = group; w < 1 << window_; w += groups_) {
        const float v = values_.get()[static_cast<size_t>(w)], cost = v * (square_[row] * v + linear_[row]) + after[w >> bits_];
        if (cost < least) least = cost, best = w;
    }
    return best;
}

// Strings shorter than a window (8 rows at 1 bit): every string is tried.
void BlockEncoder::encode_short(const float* targets, const float* weights, int rows) {
    const int length = rows * bits_;
    const auto window = [&](int string, int t) {
        int w = 0;
        for (int i = 0; i < window_; ++i) w |= (string >> ((t * bits_ + i) % length) & 1) << i;
        return w;
    };
    float least = kNever;
    int best = 0;
    for (int string = 0; string < 1 << length; ++string) {
        float cost = 0;
        for (int t = 0; t < rows; ++t) {
            const float miss = targets[t] - values_.get()[static_cast<size_t>(window(string, t))];
            cost += weights[t] * (miss * miss);
        }
        if (cost < least) least = cost, best = string;
    }
    for (int t = 0; t < rows; ++t) path_[static_cast<size_t>(t)] = window(best, t);
}

namespace {

// A row's own bits are the lowest `bits` of its window; they fill the column's string from its first bit on.
void store(const EncodeJob& job, const BlockEncoder& encoder, const std::vector<int>& path, size_t top, size_t height, size_t column) {
    const size_t bits = static_cast<size_t>(job.bits);
    for (size_t t = 0; t < height; ++t) {
        job.decoded[(top + t) * job.columns + column] = encoder.integer(path[t]);
        for (size_t i = 0; i < bits; ++i) {
            const size_t at = (top + t) * bits + i;
            job.codes[at / 8 * job.columns + column] |= static_cast<uint8_t>((path[t] >> i & 1) << at % 8);
        }
    }
}

}  // namespace

void encode_columns(const EncodeJob& job, size_t threads) {
    const size_t blocks = (job.rows + kBlockRows - 1) / kBlockRows, tasks = blocks * job.columns;
    std::atomic<size_t> next{0};
    const auto work = [&] {
        BlockEncoder encoder(job.coding, job.bits, job.tables);
        std::vector<float> targets(kBlockRows);
        for (size_t task = next++; task < tasks; task = next++) {
            const size_t top = task / job.columns * kBlockRows, column = task % job.columns, height = std::min(kBlockRows, job.rows - top);
            for (size_t t = 0; t < height; ++t) targets[t] = job.targets[(top + t) * job.columns + column];
            store(job, encoder, encoder.encode(targets.data(), job.weights + top, static_cast<int>(height)), top, height, column);
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

}  // namespace leanto

// Temperature, then top-k, then top-p, then the inverse of the cumulative distribution in order of falling probability.
#include "sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "table.h"

namespace leanto {
namespace {

struct Candidate {
    double weight;  // exp((logit - max) / temperature)
    float logit;
    int32_t id;
};

// Heap order: the most likely candidate on top, the lowest id among equals.
bool less_likely(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit < b.logit : a.id > b.id; }

template <class Each> void each_candidate(std::span<const float> logits, const Allowed& allowed, Each each) {
    if (allowed)
        for (const int32_t id : *allowed) each(id);
    else
        for (size_t id = 0; id < logits.size(); ++id) each(static_cast<int32_t>(id));
}

size_t place_of(std::span<const float> logits, float value) {
    return static_cast<size_t>(std::find(logits.begin(), logits.end(), value) - logits.begin());
}

float largest_of(std::span<const float> logits) { return logits.empty() ? -INFINITY : kernels().largest(logits.data(), logits.size()); }
size_t likeliest_of(std::span<const float> logits) { return place_of(logits, largest_of(logits)); }

int32_t greedy(std::span<const float> logits, const Allowed& allowed, size_t likeliest) {
    if (!allowed) return static_cast<int32_t>(likeliest);
    int32_t best = allowed->front();
    for (const int32_t id : *allowed)
        if (logits[id] > logits[best]) best = id;
    return best;
}

int32_t draw(std::span<const float> logits, const SamplingParams& params, const Allowed& allowed, double top) {
    std::vector<Candidate> heap;
    heap.reserve(allowed ? allowed->size() : logits.size());
    each_candidate(logits, allowed,
                   [&](int32_t id) { heap.push_back({std::exp((logits[id] - top) / params.temperature), logits[id], id}); });
    if (params.top_k > 0 && static_cast<size_t>(params.top_k) < heap.size()) {
        std::nth_element(heap.begin(), heap.begin() + params.top_k, heap.end(), [](auto& a, auto& b) { return less_likely(b, a); });
        heap.resize(static_cast<size_t>(params.top_k));
    }
    double total = 0.0;
    for (const Candidate& c : heap) total += c.weight;

    // Take candidates from the heap only until top_p of the mass is covered, or all the mass below u when nothing is cut.
    std::make_heap(heap.begin(), heap.end(), less_likely);
    std::vector<Candidate> nucleus;
    double mass = 0.0;
    const double wanted = (params.top_p < 1.0 ? params.top_p : params.u) * total;
    do {
        std::pop_heap(heap.begin(), heap.end(), less_likely);
        nucleus.push_back(heap.back());
        heap.pop_back();
        mass += nucleus.back().weight;
    } while (!heap.empty() && (params.top_p < 1.0 ? mass < wanted : mass <= wanted));
    if (params.top_p >= 1.0) return nucleus.back().id;

    double below = 0.0;
    for (const Candidate& c : nucleus) {
        below += c.weight;
        if (params.u * mass < below) return c.id;
    }
    return nucleus.back().id;
}

// The `count` likeliest tokens, likeliest first, the lowest id first among equals; runs without any of them are passed over.
std::vector<Likely> likeliest(std::span<const float> logits, size_t count, double largest, double log_total) {
    constexpr size_t kRun = 256;
    std::vector<Candidate> found;  // a heap, the least likely on top
    const auto more_likely = [](const Candidate& a, const Candidate& b) { return less_likely(b, a); };
    for (size_t start = 0; count > 0 && start < logits.size(); start += kRun) {
        const auto run = logits.subspan(start, std::min(kRun, logits.size() - start));
        if (found.size() == count && largest_of(run) <= found.front().logit) continue;
        for (size_t i = 0; i < run.size(); ++i) {
            if (found.size() == count && run[i] <= found.front().logit) continue;
            if (found.size() == count) {
                std::pop_heap(found.begin(), found.end(), more_likely);
                found.pop_back();
            }
            found.push_back({0.0, run[i], static_cast<int32_t>(start + i)});
            std::push_heap(found.begin(), found.end(), more_likely);
        }
    }
    std::sort_heap(found.begin(), found.end(), more_likely);
    std::vector<Likely> top;
    for (const Candidate& c : found) top.push_back({c.id, c.logit - largest - log_total});
    return top;
}

Sample with_evidence(std::span<const float> logits, int32_t token, size_t first, size_t count) {
    const float largest = logits[first];
    const bool best = static_cast<size_t>(token) == first;
    const float other = best ? std::max(largest_of(logits.first(first)), largest_of(logits.subspan(first + 1))) : largest;
    double total, moment;
    kernels().softmax_sums(logits.data(), logits.size(), largest, &total, &moment);
    const double log_total = std::log(total), chosen = logits[token];
    return {token, chosen - largest - log_total, chosen - other, log_total - moment / total, likeliest(logits, count, largest, log_total)};
}

}  // namespace

void SamplingParams::check() const {
    if (!(temperature >= 0.0) || !std::isfinite(temperature)) throw std::invalid_argument("temperature must be finite and at least 0");
    if (!(top_p > 0.0 && top_p <= 1.0)) throw std::invalid_argument("top_p must lie in (0, 1]");
    if (top_k < 0) throw std::invalid_argument("top_k must be at least 0 (0 = all)");
    if (!(u >= 0.0 && u < 1.0)) throw std::invalid_argument("u must lie in [0, 1)");
}

void check_allowed(const Allowed& allowed, size_t vocabulary) {
    if (!allowed) return;
    if (allowed->empty()) throw std::invalid_argument("no token is allowed");
    int64_t before = -1;
    for (const int32_t id : *allowed) {
        if (id <= before || static_cast<size_t>(id) >= vocabulary)
            throw std::invalid_argument("allowed ids must ascend and lie in the vocabulary of " + std::to_string(vocabulary));
        before = id;
    }
}

void check_finite(std::span<const float> logits) {
    bool finite = true;
    for (const float x : logits) finite &= (std::bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
    if (!finite) throw std::invalid_argument("the logits are not finite: the model's weights are damaged");
}

Sample sample(std::span<const float> logits, const SamplingParams& params, const Allowed& allowed, size_t top) {
    params.check();
    if (logits.size() < 2) throw std::invalid_argument("sampling needs at least two logits");
    if (top > logits.size()) throw std::invalid_argument("there are fewer tokens than the top that is asked for");
    check_allowed(allowed, logits.size());
    check_finite(logits);
    return sample_checked(logits, params, allowed, top);
}

Sample sample_checked(std::span<const float> logits, const SamplingParams& params, const Allowed& allowed, size_t top) {
    const size_t likeliest = likeliest_of(logits);
    const int32_t best = greedy(logits, allowed, likeliest);
    return with_evidence(logits, params.temperature == 0.0 ? best : draw(logits, params, allowed, logits[best]), likeliest, top);
}

}  // namespace leanto

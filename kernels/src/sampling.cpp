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

int32_t greedy(std::span<const float> logits, const Allowed& allowed) {
    int32_t best = allowed ? allowed->front() : 0;
    each_candidate(logits, allowed, [&](int32_t id) {
        if (logits[id] > logits[best]) best = id;
    });
    return best;
}

int32_t draw(std::span<const float> logits, const SamplingParams& params, const Allowed& allowed) {
    const double top = logits[greedy(logits, allowed)];
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

Sample with_evidence(std::span<const float> logits, int32_t token) {
    int32_t first = token == 0 ? 1 : 0;  // the best token other than the chosen one
    float largest = logits[0];
    for (size_t id = 0; id < logits.size(); ++id) {
        largest = std::max(largest, logits[id]);
        if (static_cast<int32_t>(id) != token && logits[id] > logits[first]) first = static_cast<int32_t>(id);
    }
    double total, moment;
    kernels().softmax_sums(logits.data(), logits.size(), largest, &total, &moment);
    const double log_total = std::log(total);
    return {token, static_cast<double>(logits[token]) - largest - log_total, static_cast<double>(logits[token]) - logits[first],
            log_total - moment / total};
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

Sample sample(std::span<const float> logits, const SamplingParams& params, const Allowed& allowed) {
    params.check();
    if (logits.size() < 2) throw std::invalid_argument("sampling needs at least two logits");
    check_allowed(allowed, logits.size());
    check_finite(logits);
    return with_evidence(logits, params.temperature == 0.0 ? greedy(logits, allowed) : draw(logits, params, allowed));
}

}  // namespace leanto

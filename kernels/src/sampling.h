// Chooses a token from logits and measures the evidence of that choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace leanto {

struct SamplingParams {
    double temperature;  // 0 = greedy
    double top_p;        // (0, 1]
    int64_t top_k;       // 0 = all
    double u;            // [0, 1): where to read the inverse distribution

    void check() const;  // throws std::invalid_argument
};

struct Likely {
    int32_t token;
    double logprob;
};

// Nats, at temperature 1 over the full vocabulary.
struct Sample {
    int32_t token;
    double logprob, margin, entropy;
    std::vector<Likely> top;  // the likeliest tokens, as many as were asked for
};

using Allowed = std::optional<std::span<const int32_t>>;  // ascending token ids; none = the whole vocabulary

// Throws std::invalid_argument for logits that are not finite and for ids that are out of range or out of order.
Sample sample(std::span<const float> logits, const SamplingParams& params, const Allowed& allowed, size_t top);
// The same of arguments that were checked.
Sample sample_checked(std::span<const float> logits, const SamplingParams& params, const Allowed& allowed, size_t top);
void check_allowed(const Allowed& allowed, size_t vocabulary);
void check_finite(std::span<const float> logits);

}  // namespace leanto

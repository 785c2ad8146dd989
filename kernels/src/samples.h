// Samples as Python sees them.
#pragma once

#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "sampling.h"

namespace leanto {

using SampleTuple = std::tuple<int32_t, double, double, double, std::vector<std::pair<int32_t, double>>>;

inline SampleTuple as_tuple(const Sample& sample) {
    std::vector<std::pair<int32_t, double>> top;
    for (const Likely& each : sample.top) top.emplace_back(each.token, each.logprob);
    return {sample.token, sample.logprob, sample.margin, sample.entropy, std::move(top)};
}

}  // namespace leanto

// The encoder as a Python function. Shapes and values are checked here; the GIL is released for the search.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <thread>
#include <tuple>

#include "arrays.h"
#include "bindings.h"
#include "coding.h"
#include "viterbi.h"

namespace leanto {
namespace {

using namespace nb::literals;

bool all_finite(const Array<float>& x) {
    return std::all_of(x.data(), x.data() + x.size(), [](float v) { return std::isfinite(v); });
}

void check(const Array<float>& x, const Array<int8_t>& tables, Coding coding, int bits, const std::optional<Array<float>>& weights) {
    demand(x.ndim() == 2, "encode_trellis: x must have the shape (rows, columns)");
    demand(bits >= 1 && bits <= 4, "encode_trellis: bits must be 1, 2, 3 or 4");
    demand(x.shape(0) > 0 && x.shape(0) % kRowGroup == 0, "encode_trellis: x must have a multiple of 8 rows");
    demand(all_finite(x), "encode_trellis: x has a value that is not finite");
    demand(tables.ndim() == 2 && tables.shape(0) == 2 && tables.shape(1) == 16, "encode_trellis: tables must have the shape (2, 16)");
    check_tables(tables.data(), coding, "encode_trellis: tables");
    if (!weights) return;
    demand(weights->ndim() == 1 && weights->size() == x.shape(0), "encode_trellis: weights must have one entry per row of x");
    demand(all_finite(*weights) && std::all_of(weights->data(), weights->data() + weights->size(), [](float v) { return v >= 0; }),
           "encode_trellis: weights must be finite and not negative");
}

std::tuple<NewArray<uint8_t>, NewArray<int8_t>> encode_trellis(const Array<float>& x, const Array<int8_t>& tables, int bits, int threads,
                                                              const std::optional<Array<float>>& weights, const std::string& kind) {
    const Coding coding = coding_of(kind);
    check(x, tables, coding, bits, weights);
    const size_t rows = x.shape(0), columns = x.shape(1), code_rows = rows / 8 * static_cast<size_t>(bits);
    auto codes = new_array<uint8_t>({code_rows, columns});
    auto decoded = new_array<int8_t>({rows, columns});
    {
        const nb::gil_scoped_release release;
        std::fill_n(codes.data(), code_rows * columns, uint8_t{0});
        const std::vector<float> ones(weights ? 0 : rows, 1.0f);
        const float* importance = weights ? weights->data() : ones.data();
        encode_columns({x.data(), importance, tables.data(), coding, bits, rows, columns, codes.data(), decoded.data()},
                       threads > 0 ? static_cast<size_t>(threads) : std::max(1u, std::thread::hardware_concurrency()));
    }
    return {codes, decoded};
}

}  // namespace
}  // namespace leanto

void bind_viterbi(nanobind::module_& module) {
    using namespace leanto;
    module.def("encode_trellis", &encode_trellis, "x"_a, "tables"_a, "bits"_a, "threads"_a = 0, "weights"_a = nb::none(),
               "kind"_a = "trellis",
               "Codes nearest to x: tail-biting strings down its columns.\n\n"
               "x: (m, c) float32 in units of the tables, m a multiple of 8; tables: (2, 16) int8; bits: 1 to 4; threads: 0 takes all\n"
               "cores; weights: (m,) float32, importance of each row's squared error (None: all 1; 0 leaves a row free);\n"
               "kind: trellis, additive or scalar.\n"
               "Returns (codes (m*bits/8, c) uint8, values (m, c) int8, what the codes decode to). Raises ValueError.");
}

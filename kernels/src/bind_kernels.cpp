// Each kernel as a Python function, for the tests against the oracle and for the compressor. Shapes and values are checked here.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "arrays.h"
#include "bindings.h"
#include "coding.h"
#include "key_values.h"
#include "rotation.h"
#include "samples.h"
#include "table.h"

namespace leanto {
namespace {

using namespace nb::literals;

TrellisCodes checked_codes(const Array<uint8_t>& codes, const Array<int8_t>& tables, int bits, size_t rows, const std::string& kind) {
    demand(bits >= 1 && bits <= 4, "bits must be 1, 2, 3 or 4");
    demand(tables.ndim() == 2 && tables.shape(0) == 2 && tables.shape(1) == 16, "tables must have the shape (2, 16)");
    demand(codes.ndim() == 2 && codes.shape(1) > 0 && codes.shape(1) % kColumnLanes == 0, "codes must have a multiple of 32 columns");
    demand(codes.shape(1) <= kMostColumns, "codes must not have over 2^17 columns");
    const size_t padded = (rows + kRowGroup - 1) / kRowGroup * kRowGroup;
    demand(rows > 0 && codes.shape(0) == padded * static_cast<size_t>(bits) / 8, "codes do not have the byte rows of that many rows");
    const Coding coding = coding_of(kind);
    check_tables(tables.data(), coding, "tables");
    return {codes.data(), tables.data(), coding, bits, padded, codes.shape(1)};
}

// The number of vectors in x (columns,) or (tokens, columns).
template <class T> size_t count_vectors(const Array<T>& x, size_t columns) {
    demand((x.ndim() == 1 || x.ndim() == 2) && x.shape(x.ndim() - 1) == columns, "x must have the shape (columns,) or (tokens, columns)");
    return x.ndim() == 1 ? 1 : x.shape(0);
}

template <class X> std::vector<size_t> product_shape(const X& x, size_t rows) {
    auto shape = shape_of(x);
    shape.back() = rows;
    return shape;
}

NewArray<int32_t> gemv_trellis(const Array<uint8_t>& codes, const Array<int8_t>& tables, const Array<int8_t>& x, int bits, size_t rows,
                               const std::string& kind) {
    const TrellisCodes w = checked_codes(codes, tables, bits, rows, kind);
    const size_t tokens = count_vectors(x, w.columns);
    std::vector<int32_t> sums(tokens * w.rows);
    std::vector<int8_t> tile(kRowGroup * w.columns);
    auto y = new_array<int32_t>(product_shape(x, rows));
    {
        const nb::gil_scoped_release release;
        kernels().trellis_product(w, x.data(), tokens, 0, w.rows, tile.data(), sums.data(), w.rows);
        for (size_t t = 0; t < tokens; ++t) std::copy_n(sums.data() + t * w.rows, rows, y.data() + t * rows);
    }
    return y;
}

NewArray<int8_t> decode_trellis(const Array<uint8_t>& codes, const Array<int8_t>& tables, int bits, size_t rows, const std::string& kind) {
    const TrellisCodes w = checked_codes(codes, tables, bits, rows, kind);
    std::vector<int8_t> values(w.rows * w.columns);
    auto out = new_array<int8_t>({rows, w.columns});
    const nb::gil_scoped_release release;
    kernels().trellis_decode(w, 0, w.rows, values.data());
    std::copy_n(values.data(), rows * w.columns, out.data());
    return out;
}

NewArray<int32_t> gemv_int8(const Array<int8_t>& codes, const Array<int8_t>& x) {
    demand(codes.ndim() == 2 && codes.shape(1) % kColumnLanes == 0, "codes must have the shape (rows, a multiple of 32)");
    demand(codes.shape(1) <= kMostColumns, "codes must not have over 2^17 columns");
    const size_t rows = codes.shape(0), tokens = count_vectors(x, codes.shape(1));
    auto y = new_array<int32_t>(product_shape(x, rows));
    const nb::gil_scoped_release release;
    kernels().int8_product(codes.data(), codes.shape(1), x.data(), tokens, 0, rows, y.data(), rows);
    return y;
}

NewArray<float> gemv_transposed(const Array<int8_t>& weight, const Array<float>& x, size_t rows) {
    demand(weight.ndim() == 2 && weight.shape(1) % kColumnLanes == 0, "weight must have the shape (count, a multiple of 32)");
    demand(rows <= weight.shape(1) && weight.shape(1) - rows < kColumnLanes, "rows, rounded up to a multiple of 32, must be the columns");
    const size_t count = weight.shape(0), tokens = count_vectors(x, count);
    auto y = new_array<float>(product_shape(x, rows));
    const nb::gil_scoped_release release;
    std::fill_n(y.data(), tokens * rows, 0.0f);
    kernels().transposed_product(weight.data(), count, weight.shape(1), x.data(), tokens, 0, rows, y.data(), rows);
    return y;
}

NewArray<float> gemv_dense(const nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>& weight, const Array<float>& x) {
    const bool half = weight.dtype() == nb::dlpack::dtype{static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
    demand(weight.ndim() == 2, "the weight must be a matrix");
    demand(half || weight.dtype() == nb::dtype<float>(), "the weight must be float32 or float16");
    const size_t rows = weight.shape(0), columns = weight.shape(1), tokens = count_vectors(x, columns);
    auto y = new_array<float>(product_shape(x, rows));
    const nb::gil_scoped_release release;
    if (half)
        kernels().half_product(static_cast<const uint16_t*>(weight.data()), columns, x.data(), tokens, 0, rows, y.data(), rows, false);
    else kernels().dense_product(static_cast<const float*>(weight.data()), columns, x.data(), tokens, 0, rows, y.data(), rows);
    return y;
}

std::tuple<NewArray<int8_t>, float> quantize_activations(const Array<float>& x) {
    demand(x.ndim() == 1, "x must be a vector");
    auto codes = new_array<int8_t>({x.shape(0)});
    const float scale = kernels().quantize(x.data(), x.shape(0), codes.data());
    return {codes, scale};
}

template <bool Transpose> NewArray<float> rotate_vectors(const Array<float>& x, uint64_t seed) {
    demand(x.ndim() >= 1 && x.shape(x.ndim() - 1) > 0, "x must have at least one axis and a dimension above 0");
    const size_t n = x.shape(x.ndim() - 1);
    auto y = new_array<float>(shape_of(x));
    if (seed == 0) {
        std::copy_n(x.data(), x.size(), y.data());
        return y;
    }
    const Rotation rotation(n, seed);
    std::vector<float> scratch(n);
    const auto apply = Transpose ? kernels().rotate_transpose : kernels().rotate;
    const nb::gil_scoped_release release;
    for (size_t i = 0; i < x.size(); i += n) apply(rotation, x.data() + i, y.data() + i, scratch.data());
    return y;
}

NewArray<float> rms_norm(const Array<float>& x, const Array<float>& weight, float epsilon) {
    demand(x.ndim() >= 1 && weight.ndim() == 1 && weight.shape(0) > 0 && x.shape(x.ndim() - 1) == weight.shape(0),
           "the last axis of x must be as long as the weight");
    const size_t n = weight.shape(0);
    auto y = new_array<float>(shape_of(x));
    for (size_t i = 0; i < x.size(); i += n) kernels().rms_norm(x.data() + i, weight.data(), epsilon, n, y.data() + i);
    return y;
}

NewArray<float> rope(const Array<float>& x, size_t position, float theta) {
    demand(x.ndim() == 3 && x.shape(2) % 2 == 0, "x must have the shape (tokens, heads, an even head_dim)");
    const size_t tokens = x.shape(0), heads = x.shape(1), d = x.shape(2);
    auto y = new_array<float>(shape_of(x));
    std::copy_n(x.data(), x.size(), y.data());
    std::vector<float> cosine(d / 2), sine(d / 2);
    for (size_t t = 0; t < tokens; ++t) {
        for (size_t i = 0; i < d / 2; ++i) {
            const float frequency = static_cast<float>(1.0 / std::pow(static_cast<double>(theta), 2.0 * i / d));
            cosine[i] = std::cos(static_cast<float>(position + t) * frequency);
            sine[i] = std::sin(static_cast<float>(position + t) * frequency);
        }
        for (size_t h = 0; h < heads; ++h) kernels().rope(y.data() + (t * heads + h) * d, d, cosine.data(), sine.data());
    }
    return y;
}

NewArray<float> attention(const Array<float>& query, const Array<float>& key, const Array<float>& value, std::optional<float> scale,
                          float softcap, size_t window, const std::string& storage) {
    demand(query.ndim() == 3 && key.ndim() == 3 && shape_of(key) == shape_of(value),
           "query, key and value must have three axes, key as value");
    const size_t tokens = query.shape(0), heads = query.shape(1), d = query.shape(2), context = key.shape(0), kv_heads = key.shape(1);
    demand(key.shape(2) == d && d > 0 && kv_heads > 0 && heads % kv_heads == 0, "heads must be a multiple of kv_heads and share head_dim");
    demand(context >= tokens, "there must be at least as many keys as queries");
    demand(softcap >= 0.0f, "softcap must not be negative");
    auto out = new_array<float>(shape_of(query));
    KeyValues cache(kv_heads, context, d, storage_of(storage));
    const AttentionForm form{d, scale.value_or(1.0f / std::sqrt(static_cast<float>(d))), softcap};
    std::vector<float> scratch(attention_scratch(d));
    for (size_t head = 0; head < kv_heads; ++head) {
        for (size_t t = 0; t < context; ++t) {
            const size_t at = (t * kv_heads + head) * d;
            cache.put(kernels(), head, t, key.data() + at, value.data() + at);
        }
        const size_t group = heads / kv_heads;
        std::vector<Query> queries;
        for (size_t q = 0; q < tokens * group; ++q) {
            const size_t at = (q / group * heads + head * group + q % group) * d, past = context - tokens + q / group + 1;
            queries.push_back({query.data() + at, out.data() + at, window > 0 && window < past ? past - window : 0, past});
        }
        for (size_t q = 0; q < queries.size(); q += kQueryRun)
            kernels().attend(cache.head(head), form, queries.data() + q, std::min(kQueryRun, queries.size() - q), scratch.data());
    }
    return out;
}

NewArray<float> gated_mlp(const Array<float>& gate, const Array<float>& up, const std::string& activation) {
    demand(shape_of(gate) == shape_of(up), "gate and up must have the same shape");
    demand(activation == "silu" || activation == "gelu", "the activation must be silu or gelu");
    auto out = new_array<float>(shape_of(gate));
    std::copy_n(gate.data(), gate.size(), out.data());
    (activation == "gelu" ? kernels().gated_gelu : kernels().gated_silu)(out.data(), up.data(), gate.size());
    return out;
}

NewArray<float> softcap(const Array<float>& x, float cap) {
    demand(cap > 0.0f, "cap must be positive");
    auto y = new_array<float>(shape_of(x));
    std::copy_n(x.data(), x.size(), y.data());
    kernels().softcap(y.data(), x.size(), cap);
    return y;
}

SampleTuple sample_logits(const Array<float>& logits, double temperature, double top_p, int64_t top_k, double u,
                          const std::optional<Array<int32_t>>& allowed, size_t top) {
    demand(logits.ndim() == 1 && (!allowed || allowed->ndim() == 1), "logits and allowed must be vectors");
    Allowed ids;
    if (allowed) ids.emplace(allowed->data(), allowed->shape(0));
    return as_tuple(sample({logits.data(), logits.shape(0)}, {temperature, top_p, top_k, u}, ids, top));
}

void set_isa(const std::string& name) {
    demand(choose_isa(name.c_str()), "this machine has no instruction set '" + name + "': " + isa_names());
}

}  // namespace
}  // namespace leanto

void bind_kernels(nanobind::module_& module) {
    using namespace leanto;
    kernels();  // a misspelt LEANTO_ISA fails the import
    module.def("isa", [] { return std::string(kernels().name); }, "The instruction set in use: avx512, avx2, neon_dotprod, neon or scalar.");
    module.def("set_isa", &set_isa, "name"_a, "Use another instruction set from now on. Raises ValueError if this machine lacks it.");
    module.def("gemv_trellis", &gemv_trellis, "codes"_a.noconvert(), "tables"_a.noconvert(), "x"_a.noconvert(), "bits"_a, "rows"_a,
               "kind"_a = "trellis",
               "Exact products of a coded matrix with int8 vectors.\n\n"
               "codes: (m_pad*bits/8, n_pad) uint8; tables: (2, 16) int8; x: (n_pad,) or (tokens, n_pad) int8, none -128;\n"
               "kind: trellis, additive or scalar. Returns (rows,) or (tokens, rows) int32.");
    module.def("decode_trellis", &decode_trellis, "codes"_a.noconvert(), "tables"_a.noconvert(), "bits"_a, "rows"_a, "kind"_a = "trellis",
               "The integer values of a coded matrix, (rows, n_pad) int8; kind: trellis, additive or scalar.");
    module.def("gemv_int8", &gemv_int8, "codes"_a.noconvert(), "x"_a.noconvert(),
               "Exact products: codes (m, n_pad) int8, x (n_pad,) or (tokens, n_pad) int8, no value -128; returns int32.");
    module.def("gemv_transposed", &gemv_transposed, "weight"_a.noconvert(), "x"_a, "rows"_a,
               "Products of a transposed int8 matrix, weight (k, rows padded to 32), with x (k,) or (tokens, k) float32.");
    module.def("gemv_dense", &gemv_dense, "weight"_a.noconvert(), "x"_a,
               "Products of a float32 or float16 matrix (m, n) with x (n,) or (tokens, n), in float32.");
    module.def("quantize_activations", &quantize_activations, "x"_a,
               "(codes, scale): x (n,) float32 as int8 codes in -127..127, rounded half to even. A vector below 1e-30 gives zeros and\n"
               "scale 0, one that is not finite gives zeros and scale NaN.");
    module.def("rotate", &rotate_vectors<false>, "x"_a, "seed"_a, "R x along the last axis of x, float32; seed 0 is the identity.");
    module.def("rotate_transpose", &rotate_vectors<true>, "x"_a, "seed"_a, "The inverse of rotate: R transposed.");
    module.def("rms_norm", &rms_norm, "x"_a, "weight"_a, "epsilon"_a,
               "x / sqrt(mean(x²) + epsilon) · weight along the last axis, float32.");
    module.def("rope", &rope, "x"_a, "position"_a, "theta"_a,
               "Rotary position embedding (rotate_half): x (tokens, heads, head_dim) float32, token t at position + t.");
    module.def("attention", &attention, "query"_a, "key"_a, "value"_a, "scale"_a = nb::none(), "softcap"_a = 0.0f, "window"_a = 0,
               "storage"_a = "float32",
               "Causal grouped-query attention: query (n, heads, d), key and value (t, kv_heads, d) float32, the queries last in time.\n"
               "scale: of the products, None is 1/sqrt(d); softcap: their soft limit, 0 is none; window: the latest keys seen, 0 is all;\n"
               "storage: what keys and values are rounded to first, float32, float16 or int8 (with a scale for each vector).");
    module.def("gated_mlp", &gated_mlp, "gate"_a, "up"_a, "activation"_a = "silu",
               "activation(gate) · up, float32; silu, or gelu by its tanh approximation.");
    module.def("softcap", &softcap, "x"_a, "cap"_a, "cap · tanh(x / cap), float32.");
    module.def("sample", &sample_logits, "logits"_a, "temperature"_a = 0.0, "top_p"_a = 1.0, "top_k"_a = 0, "u"_a = 0.0,
               "allowed"_a.noconvert() = nb::none(), "top"_a = 0,
               "(token, logprob, margin, entropy, top): a token drawn from logits (vocab,) float32 at u in [0, 1), and its evidence in nats\n"
               "(temperature 1, full vocabulary). Temperature 0 is greedy. allowed: ascending int32 ids.\n"
               "top: the (token, logprob) of so many likeliest tokens, likeliest first.");
}
